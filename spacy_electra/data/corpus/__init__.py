"""Documents of a corpus: files, their formats, and what is left out."""
