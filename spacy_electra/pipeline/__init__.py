"""Pretrained encoder -> spaCy components. Imports `model` and `data`, never `training`."""
