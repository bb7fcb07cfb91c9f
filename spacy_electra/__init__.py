"""ELECTRA pretraining on raw text for spaCy pipelines."""

__version__ = "0.1.0"
