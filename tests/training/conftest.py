"""A tiny corpus with strong local structure, and pretraining contexts over it that take milliseconds a step."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from spacy_electra.data.batches.packing import Packing, split_documents
from spacy_electra.data.corpus.documents import Document
from spacy_electra.data.store.reader import Store
from spacy_electra.data.store.writer import build_store
from spacy_electra.data.tokenizer.wordpiece import WordPiece
from spacy_electra.model.init.biases import piece_counts, start_from_frequencies
from spacy_electra.model.optim.adamw import adamw_v1
from spacy_electra.model.pretrainer import build_electra
from spacy_electra.training.context import RunContext
from spacy_electra.training.run import Run
from spacy_electra.training.schedule import Budget
from spacy_electra.training.schema import Training

torch.set_num_threads(1)

WORDS = [f"w{number:02d}" for number in range(40)]
CLASSES = 8  # of five words each
WINDOW = 24
CPU = torch.device("cpu")
TRAINING = {
    "max_steps": 8,
    "max_epochs": 0,
    "max_minutes": 0,
    "batch_rows": 4,
    "micro_batch_size": 0,
    "mask_rate": 0.15,
    "unmasked_fraction": 0.15,
    "discriminator_weight": 50.0,
    "warmup": 0.1,
    "eval_frequency": 2,
    "dev_rows": 8,
    "checkpoint_minutes": 60.0,
    "keep_checkpoints": 2,
    "max_skipped_steps": 3,
    "max_unknown": 1.0,
    "on_divergence": "stop",
    "score_weights": {},
    "optimizer": None,
    "logger": None,
}
DISCRIMINATOR = {"layers": 1, "width": 16, "feed_forward": 32, "heads": 2, "embedding": 16}
GENERATOR = {"layers": 1, "width": 8, "feed_forward": 16, "heads": 1}

MakeContext = Callable[..., RunContext]


def cyclic_texts(lengths: list[int], *, seed: int = 0) -> list[str]:
    """Texts of these many words; a word is followed by any word of the next of a few classes, which go round."""
    draw = random.Random(seed)
    texts = []
    for length in lengths:
        start = draw.randrange(CLASSES)
        texts.append(" ".join(draw.choice(WORDS[(start + place) % CLASSES :: CLASSES]) for place in range(length)))
    return texts


def write_store(folder: Path, texts: list[str]) -> Store:
    """A store of the texts, with one piece a word, and its vocabulary beside it in `tokenizer`."""
    tokenizer_dir = folder / "tokenizer"
    tokenizer_dir.mkdir(parents=True, exist_ok=True)
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    (tokenizer_dir / "vocab.txt").write_text("\n".join(pieces) + "\n", encoding="utf8")
    documents = (Document(text=text, source="cyclic.jsonl", line=n) for n, text in enumerate(texts, start=1))
    build_store(documents, WordPiece.load(tokenizer_dir), folder / "store")
    return Store.open(folder / "store")


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """60 documents of 5 to 60 pieces, so that rows differ in how much of them is padding."""
    return write_store(tmp_path_factory.mktemp("corpus"), cyclic_texts([5 + number * 7 % 56 for number in range(60)]))


@pytest.fixture(scope="session")
def tokenizer(store: Store) -> WordPiece:
    return store.load_tokenizer()


@pytest.fixture
def make_context(store: Store) -> MakeContext:
    """Builds a context; `model` goes to the architecture, further keywords to the settings of [training]."""

    def make(
        *,
        seed: int = 0,
        corpus: Store = store,
        learn_rate: float = 1e-3,
        model: dict[str, Any] | None = None,
        device: torch.device = CPU,
        **training: Any,
    ) -> RunContext:
        settings = Training(**{**TRAINING, **training})
        sizes = {"window": WINDOW, "discriminator": DISCRIMINATOR, "generator": GENERATOR, **(model or {})}
        pretrainer = build_electra(
            **{"objective": "electra", "tokenizer": str(corpus.directory / "tokenizer"), "precision": "fp32"} | sizes,
            seed=seed,
        )
        special = corpus.manifest.special
        if "init" not in sizes:
            counts = piece_counts(corpus, pretrainer.attrs["vocab_size"])
            start_from_frequencies(pretrainer.network, counts, mask_rate=settings.mask_rate)
        pretrainer.shim.to_device("gpu" if device.type == "cuda" else device.type, device.index or 0)
        split = split_documents(corpus, seed=seed)
        train, dev = (Packing(corpus, ranges, window=sizes["window"], seed=seed) for ranges in (split.train, split.dev))
        return RunContext(
            model=pretrainer,
            optimizer=adamw_v1(learn_rate),
            train=train,
            dev=dev,
            special=special,
            budget=Budget(
                steps=settings.max_steps,
                rows=round(settings.max_epochs * train.rows),
                seconds=settings.max_minutes * 60,
            ),
            settings=settings,
            device=device,
        )

    return make


@pytest.fixture
def make_run(tokenizer: WordPiece) -> Callable[..., Run]:
    def make(folder: Path, *, objective: str = "electra") -> Run:
        folder.mkdir(parents=True, exist_ok=True)
        return Run(folder=folder, tokenizer=tokenizer, description={"version": "1.2.3", "objective": objective})

    return make


@pytest.fixture
def cyclic_store(tmp_path: Path) -> Callable[..., Store]:
    """Writes a store of so many documents of so many words."""

    def make(*, documents: int, words: int) -> Store:
        return write_store(tmp_path / "corpus", cyclic_texts([words] * documents))

    return make


@pytest.fixture
def weights_of() -> Callable[[RunContext], dict[str, torch.Tensor]]:
    """Copies of all weights of a context's model."""

    def read(context: RunContext) -> dict[str, torch.Tensor]:
        return {name: tensor.clone() for name, tensor in context.model.network.state_dict().items()}

    return read
