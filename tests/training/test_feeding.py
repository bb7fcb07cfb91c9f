"""Rows made ahead are the rows that are asked for, in whatever order that happens."""

from collections.abc import Callable

import pytest
import torch

from spacy_electra.training.context import RunContext
from spacy_electra.training.loop import pretrain
from spacy_electra.training.prefetch import feeding
from spacy_electra.training.state import State

CPU = torch.device("cpu")


@pytest.mark.parametrize("is_ahead", [False, True])
def test_batches_are_those_of_the_packing(make_context: Callable[..., RunContext], is_ahead: bool) -> None:
    packing = make_context().train
    questions = [(0, 4), (4, 4), (8, 4), (100, 4), (104, 2), (106, 4), (0, 4)]  # in order, and then not
    with feeding(packing, CPU, step=4, is_ahead=is_ahead) as feed:
        for first, count in questions:
            assert torch.equal(feed.batch(first, count).ids, packing.batch(first, count).ids)
            assert torch.equal(feed.batch(first, count).keys, packing.batch(first, count).keys)


def test_the_next_batch_is_made_while_the_last_is_used(make_context: Callable[..., RunContext]) -> None:
    packing, made = make_context().train, []
    batch = packing.batch

    def note(first_row: int, count: int):
        made.append(first_row)
        return batch(first_row, count)

    packing.batch = note  # type: ignore[method-assign]
    with feeding(packing, CPU, step=4, is_ahead=True) as feed:
        feed.batch(0, 4)
    assert made == [0, 4]
    with feeding(packing, CPU, step=4) as feed:
        feed.batch(8, 4)
    assert made == [0, 4, 8]


def test_an_error_in_the_making_is_raised_where_the_rows_are_asked_for(make_context: Callable[..., RunContext]) -> None:
    packing = make_context().train
    with feeding(packing, CPU, step=-4, is_ahead=True) as feed:
        feed.batch(0, 4)
        with pytest.raises(ValueError, match="first_row=-4"):
            feed.batch(-4, 4)


def test_a_run_fed_ahead_is_the_same_run(
    make_context: Callable[..., RunContext],
    weights_of: Callable[[RunContext], dict[str, torch.Tensor]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plain, ahead = make_context(), make_context()
    list(pretrain(plain, State()))
    monkeypatch.setattr(
        "spacy_electra.training.loop.feeding",
        lambda packing, device, *, step: feeding(packing, device, step=step, is_ahead=True),
    )
    list(pretrain(ahead, State()))
    after = weights_of(ahead)
    assert all(torch.equal(weights, after[name]) for name, weights in weights_of(plain).items())
