"""Text -> pieces -> rows -> masked rows. Imports neither spaCy nor the other layers."""
