"""Tokenize documents on all cores, in order. Holds a few batches at a time, never the corpus."""

import re
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from functools import partial
from typing import TypeVar

import numpy as np

from spacy_electra.data.corpus.documents import Document
from spacy_electra.data.processes import spawned_pool, told_if_killed
from spacy_electra.data.tokenizer.wordpiece import WordPiece

Progress = Callable[[int, int], None]  # called with the documents and the pieces done since the last call
EncodeTexts = Callable[[list[str]], list[np.ndarray]]
Item = TypeVar("Item")

BATCH_CHARACTERS = 1 << 20  # encoded at once; the library needs about 30 bytes for each
PART_CHARACTERS = 1 << 14  # longer texts are cut, so that one long document keeps all cores busy
LONGEST_CHUNK = 1 << 17  # characters without white space, behind which a text is cut all the same
_BLANK = re.compile(r"[ \t\r\n]")  # what every BERT normaliser turns into a word boundary

_PUNCTUATION = re.compile("[!-/:-@[-`{-~\u3001\u3002\uff01\uff0c\uff0e\uff1b\uff1f]")

_worker: WordPiece  # of a worker process


def tokenized(
    documents: Iterable[Document], tokenizer: WordPiece, *, processes: int, progress: Progress | None = None
) -> Generator[tuple[Document, np.ndarray], None, None]:
    """Yield each document with its pieces (N,) int32, in order; reading continues while batches are encoded.

    processes: 1 uses the threads of the tokenizers library, more start processes of one thread each.
    progress: called with the number of documents and of pieces done since the last call.
    """
    pool, encode = _pool(tokenizer, processes)
    waiting: deque[tuple[list[Document], Future[list[np.ndarray]]]] = deque()
    with pool:
        for batch in grouped(documents, size=lambda document: len(document.text) + 1, most=BATCH_CHARACTERS):
            with told_if_killed():
                waiting.append((batch, pool.submit(encode, [document.text for document in batch])))
            if len(waiting) > processes:
                yield from _done(*waiting.popleft(), progress)
        while waiting:
            yield from _done(*waiting.popleft(), progress)


def _done(
    batch: list[Document], encoded: Future[list[np.ndarray]], progress: Progress | None
) -> Iterator[tuple[Document, np.ndarray]]:
    with told_if_killed():
        pieces = encoded.result()
    yield from zip(batch, pieces, strict=True)
    if progress is not None:
        progress(len(batch), sum(map(len, pieces)))


def _pool(tokenizer: WordPiece, processes: int) -> tuple[Executor, EncodeTexts]:
    """Where to encode and how."""
    if processes == 1:
        return ThreadPoolExecutor(1), partial(encode_texts, tokenizer)
    return spawned_pool(processes, start=_start_worker, arguments=(tokenizer.to_json(),)), _encode_in_worker


def _start_worker(tokenizer: str) -> None:
    global _worker
    _worker = WordPiece.from_json(tokenizer)


def _encode_in_worker(texts: list[str]) -> list[np.ndarray]:
    return encode_texts(_worker, texts)


def encode_texts(tokenizer: WordPiece, texts: Sequence[str]) -> list[np.ndarray]:
    """The pieces (N,) int32 of each text; memory is bounded for long texts, unless pieces may hold spaces."""
    cut_up = cut if tokenizer.spaces_part_words else (lambda text: [text])
    parts = ((number, part) for number, text in enumerate(texts) for part in cut_up(text))
    found: list[list[np.ndarray]] = [[np.empty(0, dtype=np.int32)] for _ in texts]
    for group in grouped(parts, size=lambda numbered: len(numbered[1]), most=BATCH_CHARACTERS):
        encoded = tokenizer.encode_ids([part for _, part in group])
        for (number, _), pieces in zip(group, encoded, strict=True):
            found[number].append(pieces)
    return [np.concatenate(ids) for ids in found]


def cut(text: str) -> Iterator[str]:
    """Cut a text into parts that have the same pieces as the whole: each part ends before white space.

    Without white space for LONGEST_CHUNK, a part ends behind punctuation, which is a word of its own for BERT, or else
    anywhere. Words of that length are [UNK], which then occurs once for each part.
    """
    start = 0
    while len(text) - start > PART_CHARACTERS:
        near = start + PART_CHARACTERS
        blank = _BLANK.search(text, near, near + LONGEST_CHUNK)
        if blank is None and len(text) - near <= LONGEST_CHUNK:
            break
        end = blank.start() if blank else _end_without_blank(text, near)
        yield text[start:end]
        start = end
    yield text[start:]


def _end_without_blank(text: str, near: int) -> int:
    mark = _PUNCTUATION.search(text, near, near + LONGEST_CHUNK)
    return mark.end() if mark else near + LONGEST_CHUNK


def grouped(items: Iterable[Item], *, size: Callable[[Item], int], most: int) -> Iterator[list[Item]]:
    """Group items in order; a list ends with the item that brings its total size to `most`."""
    group: list[Item] = []
    total = 0
    for item in items:
        group.append(item)
        total += size(item)
        if total >= most:
            yield group
            group, total = [], 0
    if group:
        yield group
