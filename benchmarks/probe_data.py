"""What the probe learns and is asked: labelled spans of text. Takes a data folder, gives tasks; then, for one
tokenizer, pieces and batches. Knows nothing of encoders.

Legend: T pieces of a text, M labelled spans, H heads, B texts of a batch, P pieces of spans.
"""

import sys
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from spacy_electra.data.tokenizer.wordpiece import WordPiece
from spacy_electra.pipeline.alignment import Spans, align

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))

from convert_textcat import first_there, read_labelled
from treebank import Sentence, read_sentences
from uner import merge_entities, read_annotated

TREEBANK = Path("ewt") / "en_ewt-ud-train.conllu"  # or with .gz behind it
ENTITIES = Path("ner") / "uner_en_ewt" / "train.iob"  # where the treebank has none
OTHER = "OTH"  # label of UNER's that the project leaves out as well
SENTIMENT = (Path("textcat") / "sst2" / "train.jsonl", Path("textcat") / "sst2" / "stsa.binary.train")
SENTIMENT_LABELS = ["negative", "positive"]
HELD_OUT_DOCUMENTS = 10  # one document in so many is scored, not learned
HELD_OUT_TEXTS = 8
SCORED_SENTENCES = 1000
OUTSIDE = "O"
UNSEEN = -100  # a label that training never showed; cross_entropy passes over it, and no guess equals it


@dataclass(frozen=True)
class Labelled:
    """A text with labelled spans: the words of a sentence, or the text itself."""

    text: str
    spans: tuple[tuple[int, int], ...]  # (M,) first character and the one after the last
    labels: tuple[tuple[str, ...], ...]  # (H, M)


@dataclass(frozen=True)
class Head:
    """What one linear layer guesses. The score is accuracy, or F1 over all but the label `outside`."""

    name: str
    labels: dict[str, int]
    outside: str | None = None


@dataclass(frozen=True)
class Task:
    """Heads that are learned together from `train` and scored on `held_out`."""

    heads: tuple[Head, ...]
    train: list[Labelled]
    held_out: list[Labelled]
    batch_size: int


@dataclass(frozen=True)
class Example:
    """A text as an encoder reads it."""

    ids: np.ndarray  # (T,) int64 pieces, [CLS] and [SEP] included
    pieces: np.ndarray  # (P,) int64 the pieces of each span, one span after another
    counts: np.ndarray  # (M,) int64 pieces of each span, at least 1
    answers: np.ndarray  # (H, M) int64


@dataclass(frozen=True)
class Batch:
    """Examples side by side."""

    ids: Tensor  # (B, T) int64, padded
    lengths: Tensor  # (B,) int64
    pieces: Tensor  # (P,) int64 into the B * T pieces
    owners: Tensor  # (P,) int64 the span of each
    counts: Tensor  # (M,) int64
    answers: Tensor  # (H, M) int64


def read_syntax(folder: Path, *, sentences: int) -> Task:
    """Part of speech, dependency label without subtype and entity tag of each word.

    sentences: how many to learn from, evenly spread over their documents.
    Raises FileNotFoundError for a missing treebank, ValueError for one that is malformed, too small or lacks entities.
    """
    path = folder / TREEBANK
    parts: tuple[list[Labelled], list[Labelled]] = ([], [])
    for sentence in _with_entities(list(read_sentences(path)), folder / ENTITIES):
        parts[zlib.crc32(sentence.document.encode("utf8")) % HELD_OUT_DOCUMENTS == 0].append(_from_sentence(sentence))
    train, held_out = spread(parts[0], sentences), spread(parts[1], SCORED_SENTENCES)
    _check_parts(train, held_out, path, "document")
    upos, label, entity = (_number_labels(train, head) for head in range(3))
    if not entity.keys() - {OUTSIDE} or all(set(one.labels[2]) <= {OUTSIDE} for one in held_out):
        raise ValueError(
            f"{path}: expected named entities in the last column (name=B-PER) of the sentences to learn from and to "
            f"score, or in {folder / ENTITIES}, but found none: take more --sentences, or a treebank with entities."
        )
    heads = (Head("upos", upos), Head("label", label), Head("entity", entity, OUTSIDE))
    return Task(heads, train, held_out, batch_size=16)


def read_sentiment(folder: Path) -> Task:
    """The label of a whole text. Raises FileNotFoundError for a missing file, ValueError for a malformed one."""
    path = first_there([folder / name for name in SENTIMENT])
    texts = [
        Labelled(one.text, ((0, len(one.text)),), ((one.label,),))
        for one in read_labelled(path, names=SENTIMENT_LABELS)
    ]
    train = [one for number, one in enumerate(texts) if number % HELD_OUT_TEXTS]
    held_out = texts[::HELD_OUT_TEXTS]
    _check_parts(train, held_out, path, "text")
    return Task((Head("sentiment", _number_labels(train, 0)),), train, held_out, batch_size=32)


def spread(items: list[Labelled], count: int) -> list[Labelled]:
    """`count` of the items at equal distances, or all where there are fewer."""
    return [items[i * len(items) // count] for i in range(count)] if count < len(items) else items


def _with_entities(sentences: list[Sentence], path: Path) -> list[Sentence]:
    """The sentences, with the entities of the file where they have none of their own."""
    if any(sentence.has_entities for sentence in sentences) or not path.is_file():
        return sentences
    return merge_entities(sentences, list(read_annotated(path, ignore=frozenset({OTHER}))))


def _from_sentence(sentence: Sentence) -> Labelled:
    spans, at = [], 0
    for word in sentence.words:
        spans.append((at, at + len(word.form)))
        at = spans[-1][1] + word.space_after
    labels = [(word.upos, word.deprel.partition(":")[0], word.entity) for word in sentence.words]
    return Labelled(sentence.text, tuple(spans), tuple(zip(*labels, strict=True)))


def _number_labels(examples: list[Labelled], head: int) -> dict[str, int]:
    return {label: number for number, label in enumerate(sorted({lb for one in examples for lb in one.labels[head]}))}


def _check_parts(train: list[Labelled], held_out: list[Labelled], path: Path, unit: str) -> None:
    if not train or not held_out:
        raise ValueError(
            f"{path} has {len(train)} examples to learn from and {len(held_out)} to score, expected some of both: "
            f"the part to score is chosen {unit} by {unit}; give a file with more of them."
        )


def encode(texts: list[Labelled], heads: tuple[Head, ...], tokenizer: WordPiece, *, window: int) -> list[Example]:
    """Texts as pieces, cut to `window` with [CLS] and [SEP]; a text without any piece is left out.

    A span has the pieces that overlap it; one that has none, or lies behind the cut, has the nearest.
    """
    found = tokenizer.encode([one.text for one in texts])
    examples = []
    for one, pieces in zip(texts, found, strict=True):
        if not len(pieces):
            continue
        ids, offsets = pieces.ids[: window - 2], pieces.offsets[: window - 2].astype(np.int64)
        spans = np.array(one.spans, dtype=np.int64)
        aligned = align(
            Spans(spans[:, 0], spans[:, 1]),
            Spans(offsets[:, 0], offsets[:, 1]),
            is_space=np.zeros(len(spans), dtype=bool),
            bounds=np.tile([0, len(ids)], (len(spans), 1)),
        )
        framed = np.concatenate([[tokenizer.special.cls], ids, [tokenizer.special.sep]]).astype(np.int64)
        answers = [[h.labels.get(label, UNSEEN) for label in row] for h, row in zip(heads, one.labels, strict=True)]
        examples.append(Example(framed, aligned.flat + 1, aligned.count, np.array(answers, dtype=np.int64)))
    return examples


def collate(examples: Sequence[Example], *, pad: int) -> Batch:
    """Put examples side by side, padded to the longest."""
    lengths = np.array([len(one.ids) for one in examples])
    width = int(lengths.max())
    ids = np.full((len(examples), width), pad, dtype=np.int64)
    for row, one in enumerate(examples):
        ids[row, : len(one.ids)] = one.ids
    counts = np.concatenate([one.counts for one in examples])
    return Batch(
        ids=torch.from_numpy(ids),
        lengths=torch.from_numpy(lengths),
        pieces=torch.from_numpy(np.concatenate([one.pieces + row * width for row, one in enumerate(examples)])),
        owners=torch.from_numpy(np.repeat(np.arange(len(counts)), counts)),
        counts=torch.from_numpy(counts),
        answers=torch.from_numpy(np.concatenate([one.answers for one in examples], axis=1)),
    )


def bucket(examples: Sequence[Example], *, size: int, random: np.random.Generator) -> list[list[Example]]:
    """The examples in batches of about equal length, in random order: sorted within spans of 16 batches."""
    order = random.permutation(len(examples))
    batches: list[list[Example]] = []
    for start in range(0, len(order), 16 * size):
        near = sorted(order[start : start + 16 * size], key=lambda number: len(examples[number].ids))
        batches += [[examples[number] for number in near[i : i + size]] for i in range(0, len(near), size)]
    return [batches[number] for number in random.permutation(len(batches))]
