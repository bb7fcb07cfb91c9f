"""Does it learn? In a language whose words go round in classes, a replaced word mostly fits its neighbours badly.

Only context shows that. What frequencies alone can see of it is the baseline, on the same corrupted rows. Trained on
labels in the wrong places, the discriminator must know nothing.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from spacy_electra.data.batch import Rows
from spacy_electra.data.batches.masking import Masked, mask_rows
from spacy_electra.data.store.reader import Store
from spacy_electra.model.init.biases import piece_counts
from spacy_electra.model.network.electra import Corrupted, Electra, Output, discriminator_output
from spacy_electra.model.pretrainer import Batch
from spacy_electra.training.context import RunContext
from spacy_electra.training.loop import pretrain
from spacy_electra.training.metrics import area_under_curve
from spacy_electra.training.state import State

MODEL = {
    "window": 32,
    "discriminator": {"layers": 2, "width": 64, "feed_forward": 128, "heads": 2, "embedding": 64},
    "generator": {"layers": 1, "width": 4, "feed_forward": 4, "heads": 1},  # weak: its samples ignore the neighbours
}


class MislabelledElectra(Electra):
    """In training, as many labels as are true stand at random among the real positions."""

    def forward(self, rows: Rows, masked: Masked, **settings: Any) -> Output:
        output = super().forward(rows, masked, **settings)
        if not torch.is_grad_enabled():
            return output
        assert output.corrupted is not None
        assert output.discriminator is not None
        is_replaced = output.corrupted.is_replaced.clone()
        labels = is_replaced[rows.is_real]
        order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(int(rows.keys[0])))
        is_replaced[rows.is_real] = labels[order]
        corrupted = Corrupted(ids=output.corrupted.ids, is_replaced=is_replaced)
        return Output(
            output.generator, discriminator_output(output.discriminator.logits, corrupted, rows.is_real), corrupted
        )


@pytest.fixture
def corpus(cyclic_store: Callable[..., Store]) -> Store:
    return cyclic_store(documents=100, words=1500)


@pytest.fixture
def context(make_context: Callable[..., RunContext], corpus: Store) -> RunContext:
    """A long warm-up: without it the early steps, uncorrected for young moments, make some seeds collapse."""
    return make_context(
        corpus=corpus,
        model=MODEL,
        max_steps=150,
        batch_rows=16,
        eval_frequency=150,
        dev_rows=16,
        learn_rate=1e-3,
        warmup=0.3,
    )


def train_and_score(context: RunContext, corpus: Store) -> tuple[float, float]:
    """Areas under the curve on all words of the dev set: the discriminator's, and that of the words' rarity."""
    for _ in pretrain(context, State()):
        pass
    rows = context.dev.batch(0, context.dev.rows)
    masked = mask_rows(rows, context.special, rate=0.15, unmasked_fraction=0.15)
    output: Output = context.model.predict(Batch(rows, masked))
    assert output.discriminator is not None
    assert output.corrupted is not None
    ids, is_replaced = output.corrupted.ids, output.corrupted.is_replaced
    is_word = ids > max(context.special.all)
    counts = torch.from_numpy(piece_counts(corpus, context.model.attrs["vocab_size"]))
    rarity = -counts.double().log()[ids]
    assert is_replaced[is_word].sum() > 2000  # a standard error of about 0.006
    return (
        area_under_curve(output.discriminator.logits[is_word], is_replaced[is_word]),
        area_under_curve(rarity[is_word], is_replaced[is_word]),
    )


def test_the_discriminator_learns_what_frequencies_do_not_know(context: RunContext, corpus: Store) -> None:
    found, baseline = train_and_score(context, corpus)
    assert found >= baseline + 0.10


def test_from_labels_in_the_wrong_places_nothing_is_learned(context: RunContext, corpus: Store) -> None:
    context.model.network.__class__ = MislabelledElectra  # the same weights, whatever parts they belong to
    found, _ = train_and_score(context, corpus)
    assert found == pytest.approx(0.5, abs=0.03)
