"""Inference: one interface, several backends."""
