"""The reference that pretraining is timed against: as one graph, without waits, and with the losses of its modules."""

import math
from collections.abc import Callable
from itertools import count

import pytest
import torch
from torch._dynamo import register_backend

from spacy_electra.benchmark.ours import make_train_context
from spacy_electra.benchmark.reference import Reference, ReferenceStep, draw_pieces, loss_where, reference_positions
from spacy_electra.benchmark.shapes import MASK_RATE, PAIRS, SPECIAL, full_rows, padded_rows, short_documents
from spacy_electra.data.batch import Rows
from spacy_electra.data.batches.masking import choose_positions, maskable

CPU = torch.device("cpu")


def test_the_reference_trains_one_embedding_and_ties_its_scores() -> None:
    model = Reference(PAIRS["tiny"], dropout=0.1)
    assert model.generator.electra.embeddings is model.discriminator.electra.embeddings
    words = model.discriminator.electra.embeddings.word_embeddings.weight
    assert model.generator.generator_lm_head.weight is words
    generator, discriminator = make_networks()
    assert sum(p.numel() for p in model.parameters()) == generator + discriminator


def make_networks() -> tuple[int, int]:
    """Parameters of our network of the same shape: beyond the discriminator, and of the discriminator."""
    network = make_train_context(PAIRS["tiny"], dropout=0.0, precision="fp32", device=CPU).model.network
    counts = {name: sum(p.numel() for p in part.parameters()) for name, part in network.named_children()}
    return counts["generator"] + counts["masked_head"], sum(counts.values()) - counts["generator"] - counts[
        "masked_head"
    ]


def make_rows(kind: str) -> Rows:
    vocab = PAIRS["tiny"].discriminator.vocab
    return full_rows(vocab, count=4) if kind == "full" else padded_rows(short_documents(vocab, count=4))


@pytest.mark.parametrize("kind", ["full", "padded"])
def test_the_reference_is_one_graph(kind: str) -> None:
    """A choice whose size is known from values alone would break it, and make the device wait for the processor."""
    rows, model = make_rows(kind), Reference(PAIRS["tiny"], dropout=0.0)
    compiled = torch.compile(model, backend="eager", fullgraph=True, dynamic=False)
    loss = compiled(rows.ids, None if rows.is_one_segment else rows.is_real)
    assert loss.item() == pytest.approx(math.log(8000) + 50 * math.log(2), rel=0.03)  # of a model that knows nothing
    torch.compiler.reset()


@pytest.mark.parametrize("kind", ["full", "padded"])
def test_the_reference_hides_as_many_positions_as_ours(kind: str) -> None:
    rows = make_rows(kind)
    found = reference_positions(rows.ids, None if rows.is_one_segment else rows.is_real)
    can_mask = maskable(rows, SPECIAL)
    ours = choose_positions(can_mask, rate=MASK_RATE, keys=rows.keys)
    assert torch.equal(found.weight.sum(dim=1), ours.weight.sum(dim=1))
    chosen = torch.zeros_like(rows.ids).scatter_add(1, found.index, found.weight.long())
    assert chosen.max() == 1
    assert not chosen[~can_mask].any()


def test_full_rows_have_the_loss_that_they_have_with_a_mask_of_ones() -> None:
    rows, model = make_rows("full"), Reference(PAIRS["tiny"], dropout=0.0)
    losses = []
    for is_real in (None, rows.is_real):
        torch.manual_seed(1)
        losses.append(model(rows.ids, is_real).item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


def test_padded_rows_have_the_loss_of_the_module_itself() -> None:
    rows, model = make_rows("padded"), Reference(PAIRS["tiny"], dropout=0.0).discriminator
    is_replaced = (rows.ids % 7 == 0).long()
    expected = model(rows.ids, attention_mask=rows.is_real.long(), labels=is_replaced)
    torch.testing.assert_close(loss_where(expected.logits, is_replaced, rows.is_real), expected.loss)


def test_pieces_are_drawn_by_their_probabilities() -> None:
    logits = torch.tensor([[0.0, 0.0, 0.0], [0.5, 0.2, 0.3]]).log().expand(1, 2, 3)
    torch.manual_seed(0)
    drawn = draw_pieces(logits, torch.ones(1, 20_000, dtype=torch.int64))
    shares = torch.bincount(drawn.flatten(), minlength=3) / drawn.numel()
    torch.testing.assert_close(shares, torch.tensor([0.5, 0.2, 0.3]), rtol=0, atol=0.02)


tries = count()


@register_backend(name="failing_first")
def fail_first(module: torch.fx.GraphModule, inputs: object) -> Callable[..., object]:
    if next(tries) == 0:
        raise RuntimeError("no program can be made")
    return module.forward


def test_a_reference_that_cannot_be_one_graph_is_compiled_as_torch_comes_and_says_so() -> None:
    step = ReferenceStep(
        PAIRS["tiny"], dropout=0.0, precision="fp32", device=CPU, compiled=True, backend="failing_first"
    )
    assert step.facts["compiled"] == "in one graph, mode default"
    assert step.facts["attention"] in {"eager", "sdpa"}  # up to version 4 of transformers and from 5 on
    before = step.model.generator.electra.embeddings.word_embeddings.weight.clone()
    step(make_rows("full"))
    assert step.facts["compiled"] == "as torch comes, since one graph failed with BackendCompilerFailed"
    assert not torch.equal(step.model.generator.electra.embeddings.word_embeddings.weight, before)
    torch.compiler.reset()
