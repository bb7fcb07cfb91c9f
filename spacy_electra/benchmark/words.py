"""Time `spacy pretrain` and this package on the same text: prose from the docstrings of two installed packages.

Both make their batches within the timed steps. A word is a token of spaCy's English tokenizer.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, repeat
from pathlib import Path

import spacy
import torch
import transformers
from spacy.cli.init_config import init_config
from spacy.schemas import ConfigSchemaPretrain
from spacy.tokens import Doc
from spacy.training.pretrain import create_pretraining_model, make_update
from spacy.util import registry

from spacy_electra.benchmark.measure import Program, Step
from spacy_electra.benchmark.ours import make_train_context
from spacy_electra.benchmark.shapes import PAIRS, ROWS, WINDOW
from spacy_electra.data.batches.packing import Packing
from spacy_electra.data.corpus.docstrings import find_modules, read_modules
from spacy_electra.data.corpus.documents import Document
from spacy_electra.data.store.reader import Store
from spacy_electra.data.store.writer import build_store
from spacy_electra.data.tokenizer.wordpiece import train_wordpiece
from spacy_electra.model.precision import NAMES
from spacy_electra.training.malloc import keep_freed_memory
from spacy_electra.training.step import train_step

CHARACTERS = 3_000_000  # of text
WORDS_AT_ONCE = 3000  # of a step of `spacy pretrain`, its default


@dataclass(frozen=True)
class BenchmarkText:
    """Paragraphs, and the number of words in them."""

    paragraphs: list[str]
    words: int


def read_benchmark_text() -> BenchmarkText:
    """Read prose from the docstrings of transformers and spaCy, until it exceeds `CHARACTERS`."""
    modules = find_modules([Path(transformers.__file__).parent, Path(spacy.__file__).parent])
    paragraphs, size = [], 0
    for prose in read_modules(modules, min_words=5, processes=1):
        paragraphs += prose or []
        size += sum(map(len, prose or []))
        if size > CHARACTERS:
            break
    nlp = spacy.blank("en")
    return BenchmarkText(paragraphs, words=sum(len(nlp.make_doc(one)) for one in paragraphs))


def write_store(text: BenchmarkText, folder: Path) -> None:
    """Learn a vocabulary from the text, and write a store of its pieces, for the shape "tiny" of `shapes.py`."""
    tokenizer = train_wordpiece(
        text.paragraphs, vocab_size=PAIRS["tiny"].discriminator.vocab, cased=True, strip_accents=False
    )
    documents = (Document(text=one, source="text", line=n) for n, one in enumerate(text.paragraphs, start=1))
    build_store(documents, tokenizer, folder)


def our_words(folder: Path, words: int, *, precision: str) -> Step:
    """A training step of the shape "tiny" on packed rows of the store in `folder`; its units are words.

    words: number in the whole text; every row counts as an equal share of them.
    """
    keep_freed_memory()  # as `pretrain` does
    store = Store.open(folder)
    ranges = torch.stack([torch.tensor(store.starts[:-1]), torch.tensor(store.starts[1:])], dim=1).numpy()
    packing = Packing(store, ranges, window=WINDOW, seed=0)
    context = make_train_context(
        PAIRS["tiny"], dropout=0.0, precision=precision, device=torch.device("cpu"), special=store.manifest.special
    )
    words_a_row = words / packing.rows
    row = 0

    def step() -> float:
        nonlocal row
        train_step(context, packing.batch(row, ROWS))
        row += ROWS
        return words_a_row * ROWS

    dtype = context.model.shim.choice.training
    return Program(step, {"precision": NAMES[dtype]})


def spacy_words(text: BenchmarkText) -> Step:
    """A step of `spacy pretrain` with the config that `init config --pretraining` writes; its units are words."""
    config = init_config(lang="en", pipeline=["ner"], optimize="efficiency", gpu=False, pretraining=True, silent=True)
    nlp = spacy.util.load_model_from_config(config, auto_fill=True, validate=False)
    settings = registry.resolve(nlp.config.interpolate()["pretraining"], schema=ConfigSchemaPretrain)
    model, optimizer = create_pretraining_model(nlp, settings), settings["optimizer"]
    docs = map(nlp.make_doc, chain.from_iterable(repeat(text.paragraphs)))
    batches = _batches(docs)

    def step() -> float:
        batch = next(batches)
        make_update(model, batch, optimizer, model.attrs["loss"])
        return float(sum(map(len, batch)))

    return Program(step, {"precision": "fp32"})


def _batches(docs: Iterator[Doc]) -> Iterator[list[Doc]]:
    batch: list[Doc] = []
    for doc in docs:
        batch.append(doc)
        if sum(map(len, batch)) >= WORDS_AT_ONCE:
            yield batch
            batch = []
