"""Decide whether an uncased vocabulary strips combining marks: accents in some scripts, parts of letters in others.

Takes words with their counts, returns counts and examples. Japanese dakuten, the vowel signs of Hindi and the tones of
Thai are such marks in Unicode (category Mn after decomposition), and words without them are other words.
"""

import logging
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from heapq import nlargest

logger = logging.getLogger(__name__)

_ACCENTED = ("LATIN", "GREEK", "CYRILLIC")  # scripts whose uncased vocabularies lose marks, as BERT's do
_ENOUGH = 0.1  # share of the marks that must be letters for all to be kept
_NOTEWORTHY = 0.001  # share of a text's words whose loss is told
_SHOWN = 3


@dataclass(frozen=True)
class Marks:
    """Counts of the combining marks of a text."""

    accents: int  # on Latin, Greek and Cyrillic letters
    letters: int  # on letters of other scripts
    merging: float  # share of the words that become another word of the text without their marks
    examples: tuple[str, ...]  # of such words: "バス and ハス become ハス"

    @property
    def should_stay(self) -> bool:
        """Whether an uncased vocabulary should keep the marks."""
        return 0 < self.letters >= _ENOUGH * (self.letters + self.accents)

    @property
    def are_missed(self) -> bool:
        """Whether stripping the marks merges so many words that a warning is due."""
        return bool(self.examples) and (self.letters > 0 or self.merging >= _NOTEWORTHY)


def keeps_marks(words: Mapping[str, int]) -> bool:
    """Whether an uncased vocabulary of these words, by count, keeps the marks; logs what is lost."""
    marks = count_marks(words)
    if marks.should_stay:
        logger.info("Accents are kept: %d marks are letters, %d accents.", marks.letters, marks.accents)
    elif marks.are_missed:
        logger.warning(
            "Accents are lost, as in BERT's uncased vocabularies, and words become one (%s). Keep them with "
            "--keep-accents; --strip-accents says that this is meant.",
            "; ".join(marks.examples),
        )
    return marks.should_stay


def count_marks(words: Mapping[str, int]) -> Marks:
    """Count the marks of words.

    words: word -> its number of occurrences.
    """
    totals = {True: 0, False: 0}
    bare: dict[str, list[str]] = {}  # without marks -> the words with marks that become it
    for word, count in words.items():
        if word.isascii():
            continue
        decomposed = unicodedata.normalize("NFD", word)
        found = list(_marked_letters(decomposed))
        for letter in found:
            totals[_is_accented(letter)] += count
        if found:
            bare.setdefault(_without_marks(decomposed), []).append(word)
    merged = {key: alike + [key] * (key in words) for key, alike in bare.items()}
    merged = {key: alike for key, alike in merged.items() if len(alike) > 1}
    lost = sum(words[word] for key, alike in merged.items() for word in alike if word != key)
    frequent = nlargest(_SHOWN, merged.items(), key=lambda item: sorted(words[word] for word in item[1])[-2])
    examples = tuple(f"{' and '.join(alike[:_SHOWN])} become {key}" for key, alike in frequent)
    return Marks(totals[True], totals[False], lost / max(sum(words.values()), 1), examples)


def _marked_letters(decomposed: str) -> Iterator[str]:
    """The letter under each mark."""
    letter = ""
    for character in decomposed:
        if unicodedata.category(character) != "Mn":
            letter = character
        elif letter.isalpha():
            yield letter


def _without_marks(decomposed: str) -> str:
    return "".join(character for character in decomposed if unicodedata.category(character) != "Mn")


@lru_cache(maxsize=1 << 16)
def _is_accented(letter: str) -> bool:
    return unicodedata.name(letter, "").startswith(_ACCENTED)
