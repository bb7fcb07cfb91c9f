"""The loop: equal steps however they are cut, equal runs from equal seeds, and budgets that end them."""

import math
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor, nn

from spacy_electra.data.batch import Rows
from spacy_electra.data.batches.masking import mask_rows
from spacy_electra.training.context import RunContext
from spacy_electra.training.loop import StepResult, evaluate_dev, pretrain
from spacy_electra.training.metrics import SCORES
from spacy_electra.training.state import Diverged, State
from spacy_electra.training.step import train_step

MakeContext = Callable[..., RunContext]
WeightsOf = Callable[[RunContext], dict[str, Tensor]]


def losses_of(context: RunContext) -> list[dict[str, float]]:
    return [result.evaluation.losses for result in pretrain(context, State()) if result.evaluation]


def uneven_rows(context: RunContext) -> Rows:
    """Four rows whose halves differ in what they count, so that a mean of the halves' means is not the whole's."""
    for first in range(0, context.train.rows, 4):
        rows = context.train.batch(first, 4)
        masked = mask_rows(rows, context.special, rate=0.15, unmasked_fraction=0.15)
        chosen, real = masked.positions.weight.sum(dim=1), rows.is_real.sum(dim=1)
        if chosen[:2].sum() != chosen[2:].sum() and real[:2].sum() != real[2:].sum():
            return rows
    raise AssertionError("the corpus of these tests has no such rows")


def test_a_step_in_micro_batches_is_the_step_of_the_whole_batch(
    make_context: MakeContext, weights_of: WeightsOf
) -> None:
    whole, parts = make_context(micro_batch_size=4), make_context(micro_batch_size=2)
    rows, before = uneven_rows(whole), weights_of(whole)
    sums = [train_step(context, rows).read() for context in (whole, parts)]
    assert sums[0] == pytest.approx(sums[1], rel=1e-5)
    after = weights_of(whole)
    for name, weights in weights_of(parts).items():
        torch.testing.assert_close(weights, after[name], rtol=1e-4, atol=1e-6)
    assert any(not torch.equal(before[name], after[name]) for name in before)


def test_the_gradient_is_that_of_the_mean_losses_over_the_whole_step(make_context: MakeContext) -> None:
    context = make_context(micro_batch_size=1, discriminator_weight=7.0)
    rows = uneven_rows(context)
    masked = mask_rows(rows, context.special, rate=0.15, unmasked_fraction=0.15)
    network = context.model.network
    vocab_size = context.model.attrs["vocab_size"]
    output = network(rows, masked, vocab_size=vocab_size)
    loss = output.generator.loss / output.generator.count + 7.0 * output.discriminator.loss / output.discriminator.count
    named = dict(network.named_parameters())
    expected = dict(zip(named, torch.autograd.grad(loss, list(named.values())), strict=True))
    norm = torch.stack([gradient.norm() for gradient in expected.values()]).norm()
    context.optimizer.learn_rate = 1e-3
    train_step(context, rows)
    # A tenth of the clipped gradient after one step
    moved = context.model.shims[0].steps.adamw_for(context.optimizer).means
    clip = min(1.0, 1.0 / float(norm))
    for name, gradient in expected.items():
        torch.testing.assert_close(moved[name], 0.1 * clip * gradient, rtol=1e-3, atol=1e-7)


def test_equal_seeds_give_equal_losses_to_the_last_bit(make_context: MakeContext) -> None:
    assert losses_of(make_context(seed=3)) == losses_of(make_context(seed=3))


def test_another_seed_gives_other_losses(make_context: MakeContext) -> None:
    assert losses_of(make_context(seed=3)) != losses_of(make_context(seed=4))


def test_the_dev_evaluation_is_the_same_twice_and_changes_with_the_weights(make_context: MakeContext) -> None:
    context = make_context(max_steps=4, learn_rate=0.01)
    before = evaluate_dev(context)
    assert evaluate_dev(context) == before
    *_, last = pretrain(context, State())
    assert last.evaluation is not None
    assert evaluate_dev(context) == last.evaluation.scores != before


def test_an_evaluation_tells_how_many_rows_it_has_scored_and_names_its_scores(make_context: MakeContext) -> None:
    context, told = make_context(dev_rows=6, batch_rows=4), []
    assert set(evaluate_dev(context, on_rows=told.append)) == set(SCORES)
    assert told == [4, 2]


def test_an_evaluation_comes_at_its_frequency_and_at_the_end(make_context: MakeContext) -> None:
    steps = [
        (result.state.step, result.evaluation is not None) for result in pretrain(make_context(max_steps=5), State())
    ]
    assert steps == [(1, False), (2, True), (3, False), (4, True), (5, True)]


def test_the_rate_follows_the_schedule_and_comes_back_at_the_end(make_context: MakeContext) -> None:
    context = make_context(max_steps=4, warmup=0.5, learn_rate=0.01)
    rates = [result.learn_rate for result in pretrain(context, State())]
    assert rates == pytest.approx([0.0, 0.01 * 0.5 * 0.75, 0.01 * 0.5, 0.01 * 0.25])
    assert context.optimizer.learn_rate == 0.01


def test_the_rate_comes_back_where_the_loop_is_left(make_context: MakeContext) -> None:
    context = make_context(learn_rate=0.01)
    loop = pretrain(context, State())
    next(loop)
    loop.close()
    assert context.optimizer.learn_rate == 0.01


def test_an_epochs_budget_ends_with_its_rows(make_context: MakeContext) -> None:
    context = make_context(max_steps=0, max_epochs=2, batch_rows=4)
    *_, last = pretrain(context, State())
    steps = -(-2 * context.train.rows // 4)
    assert (last.state.step, last.state.row, last.epoch) == (steps, 4 * steps, 4 * steps // context.train.rows)


def test_a_minutes_budget_ends_by_the_clock(make_context: MakeContext) -> None:
    context = make_context(max_steps=0, max_minutes=0.5 / 60, eval_frequency=10_000)
    *_, last = pretrain(context, State())
    assert last.state.seconds >= 0.5
    assert last.state.step > 1
    assert last.evaluation is not None


def test_a_spent_budget_takes_no_step(make_context: MakeContext) -> None:
    assert list(pretrain(make_context(max_steps=5), State(step=5))) == []


def is_best(results: list[StepResult]) -> list[bool]:
    return [one.evaluation.is_best for one in results if one.evaluation]


def test_only_the_last_half_of_the_budget_has_a_best_model_and_it_is_the_lowest_loss(make_context: MakeContext) -> None:
    results = list(pretrain(make_context(max_steps=40, eval_frequency=2, learn_rate=0.1, warmup=0.0), State()))
    evaluated = [one for one in results if one.evaluation]
    lowest, expected = float("inf"), []
    for one in evaluated:
        counts = one.state.step >= 20 and one.evaluation.scores["loss"] < lowest
        lowest = one.evaluation.scores["loss"] if counts else lowest
        expected.append(counts)
    assert is_best(results) == expected
    assert any(expected)
    assert not all(expected[9:])  # so high a rate makes some evaluations worse than the one before
    assert results[-1].state.best_loss == lowest


def test_a_raised_budget_forgets_the_best_of_the_old_one(make_context: MakeContext) -> None:
    state = State(step=4, row=16, best_loss=0.0)
    *_, last = pretrain(make_context(max_steps=12), state)
    assert last.state.best_loss is not None
    assert last.state.best_loss > 0.0


def test_a_budget_that_is_half_spent_keeps_its_best(make_context: MakeContext) -> None:
    state = State(step=8, row=32, best_loss=0.0)
    results = list(pretrain(make_context(max_steps=12), state))
    assert is_best(results) == [False, False]
    assert results[-1].state.best_loss == 0.0


def test_losses_are_means_since_the_last_evaluation(make_context: MakeContext) -> None:
    often = losses_of(make_context(max_steps=2, eval_frequency=1, warmup=0.0))
    once = losses_of(make_context(max_steps=2, eval_frequency=2, warmup=0.0))
    context = make_context()
    masks = [
        mask_rows(context.train.batch(first, 4), context.special, rate=0.15, unmasked_fraction=0.15) for first in (0, 4)
    ]
    counts = [float(masked.positions.weight.sum()) for masked in masks]
    expected = sum(n * losses["generator"] for n, losses in zip(counts, often, strict=True)) / sum(counts)
    assert once[0]["generator"] == pytest.approx(expected, rel=1e-6)
    assert often[0]["generator"] != often[1]["generator"]


def poison(context: RunContext, *, steps: range) -> None:
    """Put a NaN into the gradients of these steps, counted from 1."""
    taken = 0

    def before_step(parameters: Sequence[nn.Parameter]) -> None:
        nonlocal taken
        taken += 1
        if taken in steps:
            parameters[0].grad[0] = float("nan")

    context.model.shim.steps.before_step = before_step


def test_a_step_without_finite_gradients_is_not_taken(make_context: MakeContext) -> None:
    context = make_context(max_steps=8, eval_frequency=8)
    poison(context, steps=range(3, 5))
    before: dict[int, Tensor] = {}
    for result in pretrain(context, State()):
        before[result.state.step] = context.model.network.embeddings.word.weight.detach().clone()
    assert not torch.equal(before[1], before[2])
    assert torch.equal(before[2], before[3])
    assert torch.equal(before[2], before[4])
    assert not torch.equal(before[4], before[5])
    assert result.evaluation is not None
    assert result.evaluation.skipped == 2
    assert all(math.isfinite(loss) for loss in result.evaluation.losses.values())


def test_a_loss_that_is_not_finite_is_not_summed(make_context: MakeContext) -> None:
    context = make_context(max_steps=2, eval_frequency=9)
    run = pretrain(context, State())
    whole = next(run).state.sums.read()
    with torch.no_grad():
        context.model.network.masked_head.bias[7] = float("nan")
    rows = context.train.batch(0, 4)
    assert whole["chosen"] > 0
    assert train_step(context, rows).read() == dict.fromkeys(whole, 0.0)


def test_too_many_steps_in_a_row_without_finite_gradients_end_a_run(make_context: MakeContext) -> None:
    context = make_context(max_steps=8, eval_frequency=4)
    poison(context, steps=range(1, 9))
    with pytest.raises(Diverged, match=r"diverged: at step 4 4 steps in a row had gradients that .*learn_rate"):
        list(pretrain(context, State()))


def test_a_dev_loss_that_is_not_finite_ends_a_run(make_context: MakeContext) -> None:
    context = make_context()
    with torch.no_grad():
        context.model.network.embeddings.word.weight[7] = float("nan")
    with pytest.raises(Diverged, match=r"diverged: at step 2 the loss of the dev set is nan.*learn_rate"):
        list(pretrain(context, State()))


def test_a_masked_language_model_has_no_loss_of_a_discriminator(make_context: MakeContext) -> None:
    *_, last = pretrain(make_context(model={"objective": "mlm"}), State())
    assert last.evaluation is not None
    assert last.evaluation.losses.keys() == {"generator"}
    assert last.evaluation.scores.keys() == {"loss", "generator_loss", "generator_accuracy"}
