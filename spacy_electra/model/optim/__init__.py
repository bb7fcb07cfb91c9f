"""The optimizer and its steps."""
