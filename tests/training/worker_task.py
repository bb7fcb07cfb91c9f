"""The small context of the programs that tests start as processes of their own."""

from typing import Any

import torch

from spacy_electra.data.batches.packing import Packing, split_documents
from spacy_electra.data.store.reader import Store
from spacy_electra.model.optim.adamw import adamw_v1
from spacy_electra.model.pretrainer import build_electra
from spacy_electra.training.context import RunContext
from spacy_electra.training.distributed import ALONE, Ranks
from spacy_electra.training.schedule import Budget
from spacy_electra.training.schema import Training

WINDOW = 24


def small_task(store: Store, *, precision: str, ranks: Ranks = ALONE, **training: Any) -> RunContext:
    """training: settings of [training] that differ from one process to the other."""
    optimizer = adamw_v1(1e-3)
    settings = Training(
        max_epochs=0,
        max_minutes=0,
        mask_rate=0.15,
        unmasked_fraction=0.15,
        discriminator_weight=50.0,
        warmup=0.1,
        dev_rows=8,
        keep_checkpoints=2,
        max_skipped_steps=20,
        max_unknown=1.0,
        on_divergence="stop",
        score_weights={},
        optimizer=optimizer,
        logger=None,
        **training,
    )
    split = split_documents(store, seed=0)
    train, dev = (Packing(store, ranges, window=WINDOW, seed=0) for ranges in (split.train, split.dev))
    return RunContext(
        model=build_electra(
            objective="electra",
            tokenizer=str(store.directory / "tokenizer"),
            window=WINDOW,
            precision=precision,
            discriminator={"layers": 1, "width": 16, "feed_forward": 32, "heads": 2, "embedding": 16},
            generator={"layers": 1, "width": 8, "feed_forward": 16, "heads": 1},
        ),
        optimizer=optimizer,
        train=train,
        dev=dev,
        special=store.manifest.special,
        budget=Budget(steps=settings.max_steps),
        settings=settings,
        device=torch.device("cpu"),
        ranks=ranks,
    )
