"""Scores against numbers worked by hand and against counting pairs."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spacy_electra.model.network.electra import Corrupted, DiscriminatorOutput, GeneratorOutput, Output
from spacy_electra.training.metrics import area_under_curve, evaluate, verdict_scores


def count_pairs(scores: list[int], is_positive: list[bool]) -> float:
    positives = [score for score, positive in zip(scores, is_positive, strict=True) if positive]
    negatives = [score for score, positive in zip(scores, is_positive, strict=True) if not positive]
    won = sum((p > n) + 0.5 * (p == n) for p in positives for n in negatives)
    return won / (len(positives) * len(negatives))


def test_a_tie_counts_half_in_the_area_under_the_curve() -> None:
    # Pairs: 0.4 beats 0.1 and ties with 0.4, 0.8 beats both.
    scores, is_positive = torch.tensor([0.1, 0.4, 0.4, 0.8]), torch.tensor([False, True, False, True])
    assert area_under_curve(scores, is_positive) == 3.5 / 4


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=2, max_size=40))
def test_the_area_under_the_curve_is_the_share_of_pairs_in_order(pieces: list[tuple[int, bool]]) -> None:
    scores, is_positive = [score for score, _ in pieces], [positive for _, positive in pieces]
    expected = count_pairs(scores, is_positive) if len(set(is_positive)) == 2 else 0.5
    found = area_under_curve(torch.tensor(scores, dtype=torch.float32), torch.tensor(is_positive))
    assert found == pytest.approx(expected, abs=1e-12)


def test_precision_recall_and_f1_are_those_worked_by_hand() -> None:
    logits = torch.tensor([1.0, 2.0, -1.0, 3.0, -2.0, 0.5])
    is_replaced = torch.tensor([True, False, True, True, False, False])
    scores = verdict_scores(logits, is_replaced)  # found: the 1st, 2nd, 4th and 6th; right: the 1st and 4th
    assert scores["precision"] == 2 / 4
    assert scores["recall"] == pytest.approx(2 / 3)
    assert scores["f1"] == pytest.approx(4 / 7)
    assert scores["auc"] == pytest.approx(6 / 9)  # 1 beats 0.5, -2; -1 beats -2; 3 beats all three


def test_finding_nothing_scores_zero() -> None:
    scores = verdict_scores(torch.tensor([-1.0, -2.0]), torch.tensor([True, False]))
    assert (scores["precision"], scores["recall"], scores["f1"]) == (0.0, 0.0, 0.0)


def guesses_of(*, loss: float, correct: int, count: int) -> GeneratorOutput:
    """Piece 0 stood everywhere, the best guess is 0 at `correct` of `count` places; a last place only fills the row."""
    best = torch.tensor([[0] * correct + [1] * (count - correct) + [0]])
    weight = torch.tensor([[1.0] * count + [0.0]])
    return GeneratorOutput(
        loss=torch.tensor(loss),
        count=weight.sum(),
        samples=torch.zeros_like(best),
        logits=torch.nn.functional.one_hot(best, 2).float(),
        original=torch.zeros_like(best),
        weight=weight,
    )


def output(*, loss: float, correct: int, count: int, logits: list[float], replaced: list[int], bce: float) -> Output:
    """One row; the third piece is padding."""
    generator = guesses_of(loss=loss, correct=correct, count=count)
    discriminator = DiscriminatorOutput(torch.tensor(bce), torch.tensor(2.0), torch.tensor([logits]))
    corrupted = Corrupted(torch.zeros(1, 3), torch.tensor([replaced]) > 0)
    return Output(generator, discriminator, corrupted)


IS_REAL = torch.tensor([[True, True, False]])


def test_an_evaluation_weighs_batches_by_what_they_count() -> None:
    first = output(loss=6.0, correct=1, count=3, logits=[1.0, -1.0, 9.0], replaced=[1, 0, 0], bce=0.5)
    second = output(loss=1.0, correct=1, count=1, logits=[-2.0, 2.0, 9.0], replaced=[1, 0, 0], bce=1.5)
    scores = evaluate([(first, IS_REAL), (second, IS_REAL)], discriminator_weight=50.0)
    assert scores == {
        "loss": 7 / 4 + 50 * 2 / 4,
        "generator_loss": 7 / 4,
        "generator_accuracy": 2 / 4,
        "discriminator_loss": 2 / 4,
        "precision": 1 / 2,  # the padding's 9 is not judged
        "recall": 1 / 2,
        "f1": 1 / 2,
        "auc": 1 / 4,  # 1 beats -1 but not 2, -2 beats neither
    }


def test_without_a_discriminator_only_the_generator_is_scored() -> None:
    generator = guesses_of(loss=6.0, correct=1, count=4)
    scores = evaluate([(Output(generator, None, None), IS_REAL)], discriminator_weight=50.0)
    assert scores == {"loss": 1.5, "generator_loss": 1.5, "generator_accuracy": 0.25}


def test_an_evaluation_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing to evaluate"):
        evaluate([], discriminator_weight=50.0)
