"""Prune a vocabulary to the pieces that a corpus uses. Takes a tokenizer and counts, returns a tokenizer with the same
settings.

Words whose piece is removed are cut into the smaller pieces that remain, so no text is lost.

Legend: V vocabulary.
"""

import json
from collections.abc import Iterable, Iterator
from itertools import islice
from string import printable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spacy_electra.data.tokenizer.train import CONTINUATION, SPECIAL_PIECES
from spacy_electra.data.tokenizer.wordpiece import WordPiece

_AT_ONCE = 256  # texts


def count_pieces(texts: Iterable[str], tokenizer: WordPiece) -> NDArray[np.int64]:
    """Number of occurrences of each piece in the texts, (V,)."""
    counts = np.zeros(tokenizer.size, dtype=np.int64)
    remaining = iter(texts)
    while batch := list(islice(remaining, _AT_ONCE)):
        for ids in tokenizer.encode_ids(batch):
            counts += np.bincount(ids, minlength=tokenizer.size)
    return counts


def prune_vocabulary(tokenizer: WordPiece, counts: NDArray[np.int64], *, vocab_size: int | None) -> WordPiece:
    """The same tokenizer with the pieces that occur; the most frequent ones if these are more than `vocab_size`.

    Special pieces, added tokens, ASCII characters and characters that occur always stay. So do pieces that occur with a
    character that is not a piece by itself, so that no word becomes unknown.

    counts: (V,), as `count_pieces` gives them.
    vocab_size: maximum number of pieces; None for all that occur.
    Raises ValueError if the pieces that must stay are more than `vocab_size`, and if nothing was counted.
    """
    if not counts.any():
        raise ValueError("the texts hold no pieces of the vocabulary, expected text to choose pieces by.")
    needed = _needed(tokenizer, counts)
    if vocab_size is not None and vocab_size < len(needed):
        raise ValueError(
            f"vocab_size={vocab_size} is too small, expected at least {len(needed)}: the special pieces and the single "
            "characters of the text, or what holds them, are that many. Ask for more pieces."
        )
    ranked = np.argsort(-counts, kind="stable").tolist()
    others = [number for number in ranked if counts[number] and number not in needed]
    kept = needed.union(others if vocab_size is None else others[: vocab_size - len(needed)])
    return _with_pieces(tokenizer, [tokenizer.vocabulary[number] for number in sorted(kept)])


def _needed(tokenizer: WordPiece, counts: NDArray[np.int64]) -> set[int]:
    """Numbers of the pieces that stay whatever the texts hold."""
    seen = {
        character
        for number, piece in enumerate(tokenizer.vocabulary)
        if counts[number] and piece not in SPECIAL_PIECES.values()
        for character in piece.removeprefix(CONTINUATION)
    }
    single = seen.union(printable)
    added = (token["content"] for token in json.loads(tokenizer.to_json())["added_tokens"])
    always = {*SPECIAL_PIECES.values(), *added, *single, *(CONTINUATION + letter for letter in single)}
    known = set(tokenizer.vocabulary)
    return {
        number
        for number, piece in enumerate(tokenizer.vocabulary)
        if piece in always or (counts[number] and not known.issuperset(_characters(piece)))
    }


def _characters(piece: str) -> Iterator[str]:
    """The pieces of one character each that a piece can be cut into."""
    is_inside = piece.startswith(CONTINUATION)
    for place, character in enumerate(piece.removeprefix(CONTINUATION)):
        yield CONTINUATION + character if is_inside or place else character


def _with_pieces(tokenizer: WordPiece, pieces: list[str]) -> WordPiece:
    """The tokenizer with these of its pieces, in this order."""
    state: dict[str, Any] = json.loads(tokenizer.to_json())
    numbers = {piece: number for number, piece in enumerate(pieces)}
    inside = state["model"]["vocab"]
    state["model"]["vocab"] = {piece: number for piece, number in numbers.items() if piece in inside}
    state["added_tokens"] = [token | {"id": numbers[token["content"]]} for token in state["added_tokens"]]
    processor = state["post_processor"] or {}
    if processor.get("type") == "TemplateProcessing":
        for piece, token in processor["special_tokens"].items():
            token["ids"] = [numbers[piece]]
    elif processor:  # BertProcessing
        for role in ("sep", "cls"):
            processor[role] = [processor[role][0], numbers[processor[role][0]]]
    return WordPiece.from_json(json.dumps(state))
