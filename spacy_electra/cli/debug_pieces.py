"""`spacy electra debug pieces`: how a tokenizer splits a text."""

from pathlib import Path

import typer
from wasabi import msg

from spacy_electra.cli.errors import clear_errors
from spacy_electra.data.tokenizer.wordpiece import WordPiece


@clear_errors
def debug_pieces(
    texts: list[str] = typer.Argument(..., metavar="TEXT...", help="Text to tokenize"),
    tokenizer: Path = typer.Option(..., "--tokenizer", "-t", help="Folder of a tokenizer or a model"),
) -> None:
    """Print the pieces of a text with their ids and offsets.

    \b
    Example:
      python -m spacy electra debug pieces "Unhashable tensors" --tokenizer corpus/tokenizer
    """
    wordpiece = WordPiece.load(tokenizer)
    for text, pieces in zip(texts, wordpiece.encode(texts), strict=True):
        rows = [
            (wordpiece.vocabulary[number], str(number), f"{start}-{stop}", repr(text[start:stop]))
            for number, (start, stop) in zip(pieces.ids, pieces.offsets, strict=True)
        ]
        msg.table(rows, header=("piece", "number", "place", "text"), divider=True, aligns=("l", "r", "r", "l"))
    msg.text(f"{wordpiece.size:,} {'cased' if wordpiece.cased else 'uncased'} pieces in the vocabulary")
