"""Programs that are timed against each other; below `cli/`. What `benchmarks/` imports of it needs no spaCy."""
