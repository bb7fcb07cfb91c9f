"""Use a pretrained encoder in spaCy components. Imports `model` and `data`, never `training`."""
