"""Starting weights: fresh, from counts, or from a model that exists."""
