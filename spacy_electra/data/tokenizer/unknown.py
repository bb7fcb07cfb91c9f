"""Find the words of a text that a vocabulary does not know. Takes texts, returns words with their counts."""

from collections import Counter
from collections.abc import Iterable

from spacy_electra.data.tokenizer.wordpiece import WordPiece

TOO_MANY = 0.01  # share of unknown pieces that is worth a warning; a vocabulary made for its text has fewer by far
SAMPLE = 1 << 20  # characters that are looked at
_LONGEST = 30  # characters of a word that are shown


def unknown_words(texts: Iterable[str], tokenizer: WordPiece, *, most: int = 5) -> list[tuple[str, int]]:
    """The most frequent words that are one [UNK], with their counts, in the first million characters of the texts.

    most: maximum number of words.
    """
    counts: Counter[str] = Counter()
    left = SAMPLE
    for text in texts:
        part = text[:left]
        (pieces,) = tokenizer.encode([part])
        for start, stop in pieces.offsets[pieces.ids == tokenizer.special.unk].tolist():
            counts[part[start : min(stop, start + _LONGEST)]] += 1
        left -= len(part)
        if left <= 0:
            break
    return counts.most_common(most)
