"""The WordPiece vocabulary: files, training, differences."""
