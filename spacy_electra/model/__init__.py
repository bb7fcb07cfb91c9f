"""Torch networks, optimizer, thinc wrapping and Hugging Face's file format. Imports `data`, never spaCy."""
