"""Batches of rows from a store: packing, order, mixture and masking."""
