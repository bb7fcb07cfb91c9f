"""Programs that are timed against each other on frozen shapes. Imports `training` and what is below, and no spaCy."""
