"""Torch networks, optimizer, thinc wrapper and Hugging Face's file formats. Imports `data`, never spaCy."""
