"""Programs that are timed against each other; below `cli/`. What `benchmarks/` imports from here needs no spaCy."""
