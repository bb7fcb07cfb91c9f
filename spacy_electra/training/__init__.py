"""A model and a store -> a run on disk. Imports `data` and `model`, never spaCy, `pipeline` or `cli`."""
