"""The tokenized corpus on disk: written, merged, read."""
