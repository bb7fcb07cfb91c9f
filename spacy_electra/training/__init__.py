"""Pretraining: a model and a store become a run on disk. Imports `data` and `model`, but not spaCy or `pipeline`."""
