"""Transplant word embeddings to another vocabulary: takes two tokenizers and tables, returns tables.

A piece of both vocabularies keeps its vector. Any other piece gets the mean of the old pieces of its text, as in Gee et
al. 2022 ("Fast Vocabulary Transfer", arXiv 2402.09977). Continuations ("##ing") are cut as continuations.

Legend: E embedding width, V vocabulary.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from spacy_electra.data.tokenizer.train import CONTINUATION, SPECIAL_PIECES
from spacy_electra.data.tokenizer.wordpiece import WordPiece


@dataclass(frozen=True)
class Transplant:
    """The old pieces from which each new piece is made."""

    sources: tuple[tuple[int, ...], ...]  # (V new) numbers of old pieces; empty where its text has none

    @property
    def copied(self) -> int:
        """Number of pieces with the vector of one old piece."""
        return sum(len(source) == 1 for source in self.sources)

    @property
    def composed(self) -> int:
        """Number of pieces with the mean of several old vectors."""
        return sum(len(source) > 1 for source in self.sources)

    @property
    def left(self) -> int:
        """Number of pieces with letters that the old vocabulary lacks; they get the mean of all old vectors."""
        return sum(not source for source in self.sources)

    def __str__(self) -> str:
        size = len(self.sources)
        return f"of {size:,} pieces {self.copied:,} copied, {self.composed:,} composed, {self.left:,} without a source"

    def means(self, table: Tensor) -> Tensor:
        """(V old, E) vectors, or (V old,) numbers, of the old pieces -> those of the new ones."""
        rows = table.float().reshape(len(table), -1)
        everything = rows.mean(dim=0)
        means = [rows[list(source)].mean(dim=0) if source else everything for source in self.sources]
        return torch.stack(means).view(-1, *table.shape[1:])


def transplant(old: WordPiece, new: WordPiece) -> Transplant:
    """Map each piece of `new` to pieces of `old`."""
    numbers = {piece: number for number, piece in enumerate(old.vocabulary)}
    special = set(SPECIAL_PIECES.values())
    by_plain = _by_plain(numbers, new) if old.cased else {}
    sources: list[tuple[int, ...]] = []
    for piece in new.vocabulary:
        if piece in special:
            sources.append((numbers[piece],))
            continue
        source = _sources(piece, old, numbers)
        if len(source) != 1 and not new.cased and (known := by_plain.get(piece)) is not None:
            source = (known,)
        sources.append(source)
    return Transplant(tuple(sources))


def _by_plain(numbers: Mapping[str, int], new: WordPiece) -> dict[str, int]:
    """Old pieces by what the new tokenizer makes of their case and accents; of several the first, learned first."""
    answer: dict[str, int] = {}
    for piece, number in numbers.items():
        if piece not in SPECIAL_PIECES.values():
            prefix = CONTINUATION if piece.startswith(CONTINUATION) else ""
            answer.setdefault(prefix + new.normalize(piece.removeprefix(CONTINUATION)), number)
    return answer


def _sources(piece: str, old: WordPiece, numbers: Mapping[str, int]) -> tuple[int, ...]:
    """The old pieces of one piece's text, the longest first; none where a part of it is unknown."""
    if piece in old.added:
        return (numbers[piece],)
    continues = piece.startswith(CONTINUATION) and len(piece) > len(CONTINUATION)
    text = "".join(old.normalize(piece.removeprefix(CONTINUATION) if continues else piece).split())
    if not text and piece in numbers:
        return (numbers[piece],)
    found: list[int] = []
    while text:
        prefix = CONTINUATION if continues or found else ""
        size = next((size for size in range(len(text), 0, -1) if prefix + text[:size] in numbers), 0)
        if size == 0:
            return ()
        found.append(numbers[prefix + text[:size]])
        text = text[size:]
    return tuple(found)
