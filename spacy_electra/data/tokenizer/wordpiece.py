"""The WordPiece vocabulary: train, load, save (Hugging Face files), and cut texts into pieces with offsets.

Legend: N pieces of a text, V size of the vocabulary.
"""

import hashlib
import logging
import multiprocessing
import os
import re
from collections import ChainMap, Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer, models, normalizers, pre_tokenizers

from spacy_electra.data.batch import Special
from spacy_electra.data.tokenizer.accents import keeps_marks
from spacy_electra.data.tokenizer.files import (
    NumberedTokenizer,
    added_tokens,
    assemble,
    bert_normalizer,
    check_special,
    is_uncased,
    loses_accents,
    parse_tokenizer,
    read_tokenizer,
    replaced_tokenizer,
    write_tokenizer,
)
from spacy_electra.data.tokenizer.train import SPECIAL_PIECES, learn_vocabulary

logger = logging.getLogger(__name__)

_DELETED = re.compile("[\x0b\x0c\x1c-\x1f\x85]")  # white space to Python; BERT's normaliser deletes it, joining words
_MOST_KNOWN = 1 << 18  # chunks remembered, about 60 MB
_LONGEST_KNOWN = 64  # characters of one; longer ones, as in Chinese, rarely come twice


@dataclass(frozen=True)
class Pieces:
    """One text's pieces, without [CLS] and [SEP]."""

    ids: NDArray[np.int32]  # (N,) pieces
    offsets: NDArray[np.int32]  # (N, 2) first character of each piece in the text, and one past the last

    def __len__(self) -> int:
        return len(self.ids)


class WordPiece:
    """BERT's tokenizer: clean and normalize, split at spaces and punctuation, cut words into the longest known pieces.

    Gives the pieces of Hugging Face's `ElectraTokenizerFast` on the same files, with one intended difference: a literal
    "[MASK]" or "[SEP]" in a text is text (Hugging Face: `split_special_tokens=True`), because its author wrote about a
    mask and did not mask a word. Further special tokens, such as "[E1]", are matched. Threads may share one object. It
    can be pickled, and uses one thread in a process of another one's pool.
    """

    def __init__(self, made: NumberedTokenizer) -> None:
        """Wrap a tokenizer. Raises ValueError for one that ELECTRA cannot use."""
        tokenizer, numbers, source = made.tokenizer, made.numbers, made.source
        if not isinstance(tokenizer.model, models.WordPiece):
            raise ValueError(
                f"{source} is a {type(tokenizer.model).__name__} tokenizer, expected WordPiece as in BERT and ELECTRA: "
                "point to an ELECTRA or BERT tokenizer, or train one with `spacy electra train-tokenizer`."
            )
        tokenizer.no_truncation()
        tokenizer.no_padding()
        tokenizer.encode_special_tokens = True
        self._tokenizer = tokenizer
        check_special(numbers, source)
        self.special = Special(**{role: numbers[piece] for role, piece in SPECIAL_PIECES.items()})
        self.vocabulary = sorted(numbers, key=numbers.__getitem__)  # (V,) pieces in the order of their numbers
        self.size = len(numbers)
        if numbers[self.vocabulary[-1]] != self.size - 1:
            raise ValueError(
                f"{source} has {self.size} pieces but numbers up to {numbers[self.vocabulary[-1]]}, expected the "
                "numbers 0 to size - 1 once each: the vocabulary was edited; take the original."
            )
        self.cased = not is_uncased(tokenizer.normalizer)
        self.keeps_accents = not loses_accents(tokenizer.normalizer)
        self.added = tuple(token.content for token in added_tokens(tokenizer).values() if not token.special)
        self.spaces_part_words = _spaces_part_words(tokenizer)
        self._known: dict[str, bytes] = {}  # chunks between spaces -> their pieces as int32

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of `to_json` in hexadecimal; differs for every tokenizer."""
        return hashlib.sha256(self.to_json().encode("utf-8")).hexdigest()

    def encode(self, texts: Sequence[str]) -> list[Pieces]:
        """Pieces of each text with character offsets; none for a text of white space alone.

        One call uses all cores (environment variable TOKENIZERS_PARALLELISM of `tokenizers`). Words of more than 100
        characters are one [UNK], as in BERT.

        Raises ValueError for strings that are not valid Unicode.
        """
        encodings = self._encode_batch(texts, self._tokenizer.encode_batch)
        return [_pieces(encoding.ids, encoding.offsets) for encoding in encodings]

    def encode_ids(self, texts: Sequence[str]) -> list[NDArray[np.int32]]:
        """The ids (N,) of `encode` alone, several times faster on much text, as chunks between spaces are cached.

        The arrays are read-only. Raises ValueError as `encode` does.
        """
        if self.added or not self.spaces_part_words:
            found = self._encode_batch(texts, self._tokenizer.encode_batch_fast)
            return [np.array(encoding.ids, dtype=np.int32) for encoding in found]
        if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
            raise ValueError(_why_no_text(texts))
        chunks = [_DELETED.sub("", text).split() for text in texts]
        if len(self._known) > _MOST_KNOWN:
            self._known = {}
        known = self._known  # of this call, whatever other threads put in its place
        new = list(set().union(*chunks).difference(known))
        try:
            encoded = self._encode_batch(new, self._tokenizer.encode_batch_fast)
        except ValueError as error:
            raise ValueError(_why_no_text(texts)) from error
        ids_of = {chunk: _as_bytes(item.ids) for chunk, item in zip(new, encoded, strict=True)}
        long = {chunk: ids for chunk, ids in ids_of.items() if len(chunk) > _LONGEST_KNOWN}
        known.update((chunk, ids) for chunk, ids in ids_of.items() if chunk not in long)
        here = ChainMap(long, known) if long else known
        return [np.frombuffer(b"".join(map(here.__getitem__, parts)), dtype=np.int32) for parts in chunks]

    def _encode_batch(self, texts: Sequence[str], encode: Callable[..., list[Encoding]]) -> list[Encoding]:
        if multiprocessing.parent_process() is not None:  # a worker among several has one core, not all
            os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        try:
            return encode(texts, add_special_tokens=False)
        except TypeError as error:
            raise ValueError(_why_no_text(texts)) from error

    def normalize(self, text: str) -> str:
        """The normalized text: cleaned, and lower-cased by an uncased vocabulary."""
        normalizer = self._tokenizer.normalizer
        return text if normalizer is None else str(normalizer.normalize_str(text))

    def decode(self, ids: Sequence[int] | NDArray[np.integer[Any]]) -> str:
        """Text of the pieces, special ones included: words joined by a space, not the original white space."""
        text: str = self._tokenizer.decode([int(piece) for piece in ids], skip_special_tokens=False)
        return text

    def to_json(self) -> str:
        """The content of a Hugging Face `tokenizer.json`, with all settings."""
        text: str = self._tokenizer.to_str()
        return text

    @classmethod
    def from_json(cls, text: str) -> "WordPiece":
        """The tokenizer of a text that `to_json` gave. Raises ValueError if it is not a WordPiece tokenizer."""
        return cls(parse_tokenizer(text, source="the tokenizer JSON"))

    def __reduce__(self) -> tuple[Callable[[str], "WordPiece"], tuple[str]]:
        return WordPiece.from_json, (self.to_json(),)

    def save(self, directory: str | Path, *, model_max_length: int = 512) -> None:
        """Write the four files that Hugging Face's `ElectraTokenizer(Fast).from_pretrained` reads, all or none.

        model_max_length: maximum input length of a model with this vocabulary, in pieces, [CLS] and [SEP] included.
        """
        with replaced_tokenizer(Path(directory)) as folder:
            self.write(folder, model_max_length=model_max_length)

    def write(self, directory: Path, *, model_max_length: int) -> None:
        """Write the same files into an existing folder that nobody reads yet."""
        write_tokenizer(self._tokenizer, self.vocabulary, directory, model_max_length=model_max_length)

    @classmethod
    def load(cls, directory: str | Path) -> "WordPiece":
        """Read a directory's `tokenizer.json`, or else `vocab.txt`, with its settings files.

        directory: as `train-tokenizer` or Hugging Face writes it, or a run's model-last, whose discriminator has it.
        Raises FileNotFoundError without either file, ValueError if one cannot be used; both name the file.
        """
        return cls(read_tokenizer(Path(directory)))


def train_wordpiece(
    texts: Iterable[str],
    *,
    vocab_size: int,
    cased: bool,
    strip_accents: bool | None,
    limit_alphabet: int | None = None,
    min_frequency: int = 2,
) -> WordPiece:
    """Train a vocabulary; the same texts in the same order give the same vocabulary.

    The special pieces are numbers 0 to 4. If the text is too small for `vocab_size`, the vocabulary is smaller, with a
    logged warning.

    vocab_size: maximum number of pieces.
    cased: keep upper case.
    strip_accents: None follows the case, as in BERT: uncased vocabularies strip accents. They keep them if at least a
        tenth of the marks stand on letters of scripts other than Latin, Greek and Cyrillic. What is lost is logged.
    limit_alphabet: maximum number of characters to keep; None chooses by the text and `vocab_size`.
    min_frequency: minimum count of a pair of pieces that is merged.
    Raises ValueError if `texts` hold no word, or if the alphabet alone exceeds `vocab_size`.
    """
    if isinstance(texts, str):
        raise ValueError("texts is one str, expected several texts: its letters would count as texts; use [text].")
    settings = {"do_lower_case": not cased, "strip_accents": strip_accents}
    losing, keeping = bert_normalizer(settings), bert_normalizer(settings | {"strip_accents": False})
    is_open = strip_accents is None and not cased
    keeps: list[bool] = []

    def choose(words: Counter[str]) -> normalizers.Normalizer | None:
        keeps.append(keeps_marks(words))
        return None if keeps[0] else losing

    vocabulary = learn_vocabulary(
        texts,
        vocab_size=vocab_size,
        normalizer=keeping if is_open else losing,
        limit_alphabet=limit_alphabet,
        min_frequency=min_frequency,
        choose=choose if is_open else None,
    )
    normalizer = keeping if is_open and keeps[0] else losing
    if len(vocabulary) < vocab_size:
        logger.warning(
            "The text gave %d pieces of the %d asked for: it is too small for more pairs seen %d times. "
            "Give more text or a smaller vocab_size.",
            len(vocabulary),
            vocab_size,
            min_frequency,
        )
    numbers = {piece: number for number, piece in enumerate(vocabulary)}
    return WordPiece(assemble(numbers, normalizer, source="the trained vocabulary"))


def _spaces_part_words(tokenizer: Tokenizer) -> bool:
    """True where a text has the pieces of its chunks between spaces, one after the other.

    A token that was added may hold a space, and eat those beside it.
    """
    return (
        isinstance(tokenizer.normalizer, normalizers.BertNormalizer)
        and tokenizer.normalizer.clean_text
        and isinstance(tokenizer.pre_tokenizer, pre_tokenizers.BertPreTokenizer)
        and not any(re.search(r"\s", token.content) for token in added_tokens(tokenizer).values() if not token.special)
    )


def _as_bytes(ids: list[int]) -> bytes:
    return np.array(ids, dtype=np.int32).tobytes()


def _pieces(ids: list[int], offsets: list[tuple[int, int]]) -> Pieces:
    flat = np.fromiter(chain.from_iterable(offsets), dtype=np.int32, count=2 * len(offsets))
    return Pieces(ids=np.array(ids, dtype=np.int32), offsets=flat.reshape(-1, 2))


def _why_no_text(texts: Sequence[str]) -> str:
    """What is wrong with texts that `tokenizers` refused."""
    if isinstance(texts, str):
        return "encode takes several texts, but got one str: use encode([text])."
    for number, text in enumerate(texts):
        if not isinstance(text, str):
            return f"text {number} is a {type(text).__name__}, expected str."
        lone = re.search("[\ud800-\udfff]", text)
        if lone:
            return (
                f"text {number} holds half of a surrogate pair at character {lone.start()}, which is no Unicode text: "
                "read the file with its right encoding."
            )
    return f"texts is a {type(texts).__name__}, expected a list of str."
