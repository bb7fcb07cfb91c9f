"""Set up a run: its stores and tokenizer, its model, and the rows of train and dev."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from spacy_electra.cli.corpora import all_ranges, mixed, mixed_counts, open_corpora
from spacy_electra.cli.device import move
from spacy_electra.cli.settings import PretrainingConfig, make, shapes_in
from spacy_electra.cli.teaching import make_distillation
from spacy_electra.data.batches.packing import Packing, Split, split_documents
from spacy_electra.data.store.reader import Store
from spacy_electra.data.tokenizer.wordpiece import WordPiece
from spacy_electra.model.init.biases import piece_counts, start_from_frequencies
from spacy_electra.model.init.embeddings import start_from_neighbours
from spacy_electra.model.init.pretrained import take_tables
from spacy_electra.model.pretrainer import HEADS
from spacy_electra.training.context import RunContext
from spacy_electra.training.distributed import ALONE, Ranks
from spacy_electra.training.least_memory import check_room
from spacy_electra.training.schedule import Budget


@dataclass(frozen=True)
class Data:
    """The tokenizer and the stores of a run."""

    tokenizer: WordPiece
    train: Store
    dev: Store | None  # None: held out of train
    corpora: dict[str, Store] = field(default_factory=dict)  # mixed into train


def open_data(settings: PretrainingConfig) -> Data:
    """Open the tokenizer and the stores of a run.

    Raises FileNotFoundError or ValueError if one is missing, or if they do not fit together.
    """
    tokenizer = WordPiece.load(settings.paths.tokenizer)
    train = Store.open(settings.paths.train, tokenizer=tokenizer)
    dev = Store.open(settings.paths.dev, tokenizer=tokenizer) if settings.paths.dev else None
    corpora = open_corpora(settings.corpora, tokenizer, train=train, dev=dev)
    return Data(tokenizer=tokenizer, train=train, dev=dev, corpora=corpora)


def make_context(
    settings: PretrainingConfig,
    data: Data,
    device: torch.device,
    *,
    is_new: bool,
    tables: Mapping[str, int] | None = None,
    ranks: Ranks = ALONE,
) -> RunContext:
    """Build the model of a run, with its starting weights, and pack the rows of train and dev.

    is_new: false if the weights will come from a checkpoint.
    tables: lengths of the tables of positions and token types in that checkpoint; None if unknown.
    ranks: the processes that share the run.
    """
    training, seed = settings.training, settings.system.seed
    shapes = shapes_in(settings.config["model"], vocab_size=data.tokenizer.size)
    if shapes is not None:
        check_room(shapes, device)
    model = make(settings.config["model"], "model")
    if tables is not None:
        take_tables(model.network, **tables)
    documents = split(data, seed=seed)
    fresh = model.attrs.get("fresh", HEADS)
    if is_new and fresh:
        held_out = documents.dev if data.dev is None else None
        counts = piece_counts(data.train, data.tokenizer.size, without=held_out)
        counts = mixed_counts(counts, data.corpora, settings.corpora)
        start_from_frequencies(model.network, counts, mask_rate=training.mask_rate, heads=fresh)
        is_nothing_given = settings.config["model"].get("init") is None
        if is_nothing_given and settings.config["model"].get("initialization") == "corpus":
            others = list(data.corpora.values())
            start_from_neighbours(model.network, data.train, counts, seed=seed, without=held_out, others=others)
    move(model, device)
    own, dev = lay_out(data, documents, window=model.attrs["window"], seed=seed)
    train = mixed(own, data.corpora, settings.corpora)
    rows = max(1, round(training.max_epochs * train.rows)) if training.max_epochs else 0
    return RunContext(
        model=model,
        optimizer=training.optimizer,
        train=train,
        dev=dev,
        special=data.tokenizer.special,
        budget=Budget(steps=training.max_steps, rows=rows, seconds=training.max_minutes * 60),
        settings=training,
        device=device,
        ranks=ranks,
        distillation=make_distillation(settings.teacher, model, data.tokenizer, device),
    )


def split(data: Data, *, seed: int) -> Split:
    """Documents of train and dev; without a store for dev, some documents of train are held out."""
    if data.dev is None:
        return split_documents(data.train, seed=seed)
    return Split(train=all_ranges(data.train), dev=all_ranges(data.dev))


def lay_out(data: Data, documents: Split, *, window: int, seed: int) -> tuple[Packing, Packing]:
    """Pack the rows of train, without the corpora that are mixed into it, and of dev."""
    train = Packing(data.train, documents.train, window=window, seed=seed)
    return train, Packing(data.dev or data.train, documents.dev, window=window, seed=seed)
