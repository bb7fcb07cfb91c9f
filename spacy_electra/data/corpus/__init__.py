"""Read the documents of a corpus: files, formats, and a list of what is skipped."""
