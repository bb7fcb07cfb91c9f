"""Text becomes pieces, rows and masked rows. Imports neither spaCy nor the other layers."""
