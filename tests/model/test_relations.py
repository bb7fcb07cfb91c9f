"""The relation loss against one written piece by piece, and its gradient against numbers and against autograd."""

import math

import pytest
import torch
from torch import Tensor

from spacy_electra.model import relations
from spacy_electra.model.network.attention import within_segments
from spacy_electra.model.relations import relation_loss

SEGMENTS = torch.tensor([[1, 1, 1, 2, 2, 0], [1, 1, 1, 1, 1, 1], [1, 2, 2, 2, 0, 0]])
WIDTH, TEACHER_WIDTH = 8, 12


def qkv(width: int, *, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn((*SEGMENTS.shape, 3 * width), generator=generator, dtype=torch.float64).to(dtype)


def distribution(vectors: Tensor, place: int, seen: list[int]) -> Tensor:
    """How one piece of a head (T, C) relates to those that it sees."""
    scores = [float(vectors[place] @ vectors[other]) / math.sqrt(vectors.shape[1]) for other in seen]
    total = sum(math.exp(score) for score in scores)
    return torch.tensor([math.exp(score) / total for score in scores], dtype=torch.float64)


def piece_by_piece(student: Tensor, teacher: Tensor, segments: Tensor, *, heads: int) -> float:
    """The sum over real pieces, relation heads and queries, keys, values, over relation heads. Knows no mask."""
    total = 0.0
    for row, part in ((row, part) for row in range(len(segments)) for part in range(3)):
        ours, theirs = student[row].chunk(3, dim=-1)[part], teacher[row].chunk(3, dim=-1)[part]
        for our_head, their_head in zip(ours.chunk(heads, dim=-1), theirs.chunk(heads, dim=-1), strict=True):
            for place in range(segments.shape[1]):
                seen = [n for n in range(segments.shape[1]) if segments[row, n] == segments[row, place] != 0]
                if seen:
                    p, q = distribution(their_head, place, seen), distribution(our_head, place, seen)
                    total += float((p * (p / q).log()).sum())
    return total / heads


def loss_of(student: Tensor, teacher: Tensor, segments: Tensor = SEGMENTS, *, heads: int) -> Tensor:
    return relation_loss(student, teacher, within_segments(segments), segments > 0, heads=heads)


@pytest.mark.parametrize("heads", [1, 2, 4])
def test_the_loss_is_that_of_pieces_compared_one_by_one(heads: int) -> None:
    student, teacher = qkv(WIDTH, seed=0), qkv(TEACHER_WIDTH, seed=1)
    expected = piece_by_piece(student, teacher, SEGMENTS, heads=heads)
    assert expected > 1.0
    assert float(loss_of(student, teacher, heads=heads)) == pytest.approx(expected, rel=1e-12)


def test_rows_of_one_whole_segment_need_no_mask() -> None:
    student, teacher, segments = qkv(WIDTH, seed=0), qkv(TEACHER_WIDTH, seed=1), torch.ones_like(SEGMENTS)
    assert within_segments(segments) is None
    expected = piece_by_piece(student, teacher, segments, heads=2)
    assert float(loss_of(student, teacher, segments, heads=2)) == pytest.approx(expected, rel=1e-12)


def test_two_pieces_are_related_as_worked_by_hand() -> None:
    """One head of one channel; queries 0 and 1 against 0 and 2, and keys and values that are alike."""
    segments = torch.tensor([[1, 1]])
    student = torch.tensor([[[0.0, 1.0, 1.0], [1.0, 1.0, 1.0]]], dtype=torch.float64)
    teacher = torch.tensor([[[0.0, 1.0, 1.0], [2.0, 1.0, 1.0]]], dtype=torch.float64)
    p, q = 1 / (1 + math.exp(-4)), 1 / (1 + math.exp(-1))  # of the second piece to itself; the first sees both alike
    expected = p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))
    assert float(loss_of(student, teacher, segments, heads=1)) == pytest.approx(expected, rel=1e-12)


def test_the_gradient_is_that_of_finite_differences() -> None:
    student, teacher = qkv(4, seed=2)[2:, :5].requires_grad_(), qkv(TEACHER_WIDTH, seed=3)[2:, :5]
    segments = SEGMENTS[2:, :5]
    assert torch.autograd.gradcheck(lambda x: loss_of(x, teacher, segments, heads=2), (student,))


def test_padding_neither_counts_nor_learns() -> None:
    student, teacher = qkv(WIDTH, seed=4), qkv(TEACHER_WIDTH, seed=5)
    changed = student.clone()
    changed[SEGMENTS == 0] = 7.0
    changed.requires_grad_()
    loss = loss_of(changed, teacher, heads=2)
    loss.backward()
    assert loss.item() == pytest.approx(float(loss_of(student, teacher, heads=2)), rel=1e-14)
    assert changed.grad is not None
    assert not changed.grad[SEGMENTS == 0].any()
    assert changed.grad[SEGMENTS == 2].all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_equal_relations_have_no_loss_and_no_gradient(dtype: torch.dtype) -> None:
    student, teacher = qkv(WIDTH, seed=6, dtype=dtype), qkv(WIDTH, seed=6, dtype=dtype)
    student.requires_grad_()
    loss = loss_of(student, teacher, heads=4)
    loss.backward()
    assert student.grad is not None
    assert loss.item() == 0.0
    assert not student.grad.any()
    assert student.grad.dtype == dtype
    assert loss.dtype == torch.float32


def test_rows_taken_one_by_one_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    student, teacher = qkv(WIDTH, seed=7).requires_grad_(), qkv(TEACHER_WIDTH, seed=8)
    whole = torch.autograd.grad(loss_of(student, teacher, heads=2), student)[0]
    monkeypatch.setattr(relations, "SCORES_AT_ONCE", {"cpu": 1})
    loss = loss_of(student, teacher, heads=2)
    torch.testing.assert_close(torch.autograd.grad(loss, student)[0], whole, rtol=1e-12, atol=1e-14)


def test_large_scores_stay_finite() -> None:
    student, teacher = 100 * qkv(WIDTH, seed=9, dtype=torch.float32), 100 * qkv(WIDTH, seed=10, dtype=torch.float32)
    student.requires_grad_()
    loss = loss_of(student, teacher, heads=2)
    loss.backward()
    assert student.grad is not None
    assert math.isfinite(loss.item())
    assert bool(student.grad.isfinite().all())
