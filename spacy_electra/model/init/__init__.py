"""Initial weights: random, from counts, or from an existing model."""
