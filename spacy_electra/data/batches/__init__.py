"""Rows of a store in batches, and which of their pieces are masked."""
