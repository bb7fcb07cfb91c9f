"""The tokenised corpus on disk: written, merged, read."""
