"""The optimizer, and what belongs to its steps."""
