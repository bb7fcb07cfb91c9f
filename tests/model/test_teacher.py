"""A teacher beside a pretraining model: who learns from it, what it reads, and teachers that do not fit."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from spacy_electra.data.batch import Rows, Special
from spacy_electra.data.batches.masking import mask_rows
from spacy_electra.data.rng import row_keys
from spacy_electra.data.tokenizer.wordpiece import WordPiece
from spacy_electra.model.files.huggingface import save_encoder
from spacy_electra.model.network.attention import within_segments
from spacy_electra.model.network.electra import Output, encoder_of
from spacy_electra.model.network.encoder import Encoder, EncoderShape
from spacy_electra.model.pretrainer import Batch, LossWeights, Pretrainer, build_electra
from spacy_electra.model.relations import relation_loss
from spacy_electra.model.teacher import TeacherEncoder, load_teacher

SPECIAL = Special(pad=0, unk=1, cls=2, sep=3, mask=4)
WINDOW, VOCAB = 16, 25
CPU = torch.device("cpu")
SHAPE = EncoderShape(layers=3, width=24, feed_forward=32, heads=3, embedding=12, vocab=VOCAB, positions=20)
ONE = torch.tensor(1.0)


def write_vocabulary(folder: Path, *, prefix: str = "w") -> WordPiece:
    folder.mkdir(exist_ok=True)
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"{prefix}{number}" for number in range(20))]
    (folder / "vocab.txt").write_text("\n".join(pieces) + "\n", encoding="utf8")
    return WordPiece.load(folder)


@pytest.fixture
def tokenizer(tmp_path: Path) -> WordPiece:
    return write_vocabulary(tmp_path / "tokenizer")


@pytest.fixture
def teacher_dir(tmp_path: Path, tokenizer: WordPiece) -> Path:
    torch.manual_seed(1)
    save_encoder(Encoder(SHAPE), tokenizer, tmp_path / "teacher")
    return tmp_path / "teacher"


@pytest.fixture
def build(tmp_path: Path, tokenizer: WordPiece) -> Callable[..., Pretrainer]:
    def make(**settings: Any) -> Pretrainer:
        given = {"objective": "electra", "tokenizer": str(tmp_path / "tokenizer"), "window": WINDOW}
        given |= {"precision": "fp32", "initialization": "paper"}
        given |= {"discriminator": {"layers": 2, "width": 16, "feed_forward": 24, "heads": 2, "embedding": 12}}
        return build_electra(**{**given, **settings})

    return make


@pytest.fixture
def load(teacher_dir: Path, tokenizer: WordPiece, build: Callable[..., Pretrainer]) -> Callable[..., TeacherEncoder]:
    def make(**changes: Any) -> TeacherEncoder:
        given = {"name": str(teacher_dir), "tokenizer": tokenizer, "window": WINDOW, "device": CPU}
        given |= {"student": build().network.shape, "layer": None, "student_layer": None, "relation_heads": 4}
        return load_teacher(**{**given, **changes})

    return make


def rows() -> Rows:
    """Three rows: one segment, two segments, and one half empty."""
    ids = torch.randint(5, VOCAB, (3, WINDOW), generator=torch.Generator().manual_seed(1))
    ids[:, 0], ids[:, -1] = SPECIAL.cls, SPECIAL.sep
    segments, places = torch.ones_like(ids), torch.arange(WINDOW).repeat(3, 1)
    segments[1, 6:], places[1, 6:] = 2, torch.arange(WINDOW - 6)
    segments[2, 8:] = ids[2, 8:] = 0
    row = torch.arange(3)
    return Rows(ids, torch.zeros_like(ids), segments, places, row_keys(0, epoch=torch.zeros_like(row), row=row))


def batch(teacher: TeacherEncoder | None) -> Batch:
    masked = mask_rows(rows(), SPECIAL, rate=0.3, unmasked_fraction=0.15)
    return Batch(rows=rows(), masked=masked, teacher=teacher)


def gradients(
    model: Pretrainer, teacher: TeacherEncoder | None, *, weight: float, objective: float
) -> dict[str, Tensor]:
    """The gradients of a pass by parameter, zeros where there is none."""
    _, backprop = model.begin_update(batch(teacher))
    backprop(LossWeights(generator=objective * ONE, discriminator=objective * ONE, teacher=weight * ONE))
    network = model.network
    found = {name: torch.zeros_like(p) if p.grad is None else p.grad for name, p in network.named_parameters()}
    network.zero_grad(set_to_none=True)
    return found


@pytest.mark.parametrize("objective", ["electra", "mlm"])
def test_a_deeper_and_wider_teacher_has_a_loss_of_its_own(
    build: Callable[..., Pretrainer], load: Callable[..., TeacherEncoder], objective: str
) -> None:
    """It is that of both encoders on what the discriminator reads, computed apart."""
    model, teacher = build(objective=objective), load(student_layer=0)
    output, _ = model.begin_update(batch(teacher))
    ids = batch(None).masked.ids if output.corrupted is None else output.corrupted.ids
    student = TeacherEncoder(encoder_of(model.network), layer=0, student_layer=0, relation_heads=4)
    given = rows()
    ours, theirs = (one.qkv(ids, given, dtype=torch.float32) for one in (student, teacher))
    assert theirs.shape == (3, WINDOW, 3 * SHAPE.width)
    expected = relation_loss(ours, theirs, within_segments(given.segments), given.is_real, heads=4)
    assert output.teacher_loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert output.teacher_loss.item() > 0.1
    assert output.qkv is None


def test_the_other_losses_are_those_without_a_teacher(
    build: Callable[..., Pretrainer], load: Callable[..., TeacherEncoder]
) -> None:
    outputs = [build().begin_update(batch(teacher))[0] for teacher in (None, load())]
    alone, taught = ([o.generator.loss.item(), o.discriminator.loss.item()] for o in outputs)
    assert alone == taught
    assert outputs[0].teacher_loss is None


def test_the_gradient_is_the_sum_of_those_of_the_objective_and_of_the_teacher(
    build: Callable[..., Pretrainer], load: Callable[..., TeacherEncoder]
) -> None:
    model, teacher = build(dropout=0.1), load()
    both = gradients(model, teacher, weight=0.7, objective=1.0)
    apart = [
        gradients(model, None, weight=0.0, objective=1.0),
        gradients(model, teacher, weight=0.7, objective=0.0),
    ]
    for name, gradient in both.items():
        torch.testing.assert_close(gradient, apart[0][name] + apart[1][name], rtol=1e-4, atol=1e-6)


def test_the_student_learns_below_the_layer_that_is_compared_and_the_teacher_nowhere(
    build: Callable[..., Pretrainer], load: Callable[..., TeacherEncoder]
) -> None:
    model, teacher = build(), load(student_layer=1)
    before = {name: tensor.clone() for name, tensor in teacher.encoder.state_dict().items()}
    found = gradients(model, teacher, weight=1.0, objective=0.0)
    learned = {name for name, gradient in found.items() if gradient.any()}
    assert {"embeddings.word.weight", "discriminator.blocks.0.feed_forward.up.weight"} <= learned
    assert "discriminator.blocks.1.attention.qkv.weight" in learned
    assert not any(name.startswith(("masked_head", "replaced_head")) for name in learned)
    assert "discriminator.blocks.1.attention.output.weight" not in learned
    assert all(p.grad is None and not p.requires_grad for p in teacher.encoder.parameters())
    assert all(torch.equal(before[name], tensor) for name, tensor in teacher.encoder.state_dict().items())


@pytest.mark.parametrize(("precision", "most"), [("fp32", 0.0), ("bf16", 1e-3)])  # what learns may round otherwise
def test_a_student_that_is_its_own_teacher_has_nothing_to_learn(
    build: Callable[..., Pretrainer], precision: str, most: float
) -> None:
    model = build(precision=precision)
    teacher = TeacherEncoder(encoder_of(model.network), layer=1, student_layer=1, relation_heads=4)
    output, _ = model.begin_update(batch(teacher))
    found = gradients(model, teacher, weight=1.0, objective=0.0)
    assert abs(output.teacher_loss.item()) <= most
    assert max(float(gradient.abs().max()) for gradient in found.values()) <= most


def test_the_gradient_in_bfloat16_is_near_that_in_float32(
    build: Callable[..., Pretrainer], load: Callable[..., TeacherEncoder]
) -> None:
    """Of sizes that the kernels take, on processors for which there are some."""
    sizes = {"layers": 2, "width": 64, "feed_forward": 64, "heads": 4, "embedding": 12}
    exact, rough = (build(discriminator=sizes, precision=precision) for precision in ("fp32", "bf16"))
    teacher = load(student=exact.network.shape, relation_heads=8)
    expected, found = (gradients(model, teacher, weight=1.0, objective=0.0) for model in (exact, rough))
    for name in ("embeddings.word.weight", *(f"discriminator.blocks.{n}.attention.qkv.weight" for n in (0, 1))):
        assert float((found[name] - expected[name]).norm()) < 0.05 * float(expected[name].norm())


def test_a_prediction_asks_no_teacher(build: Callable[..., Pretrainer], load: Callable[..., TeacherEncoder]) -> None:
    output: Output = build().predict(batch(load()))
    assert (output.teacher_loss, output.qkv) == (None, None)


def test_a_teacher_is_in_no_bytes(build: Callable[..., Pretrainer], load: Callable[..., TeacherEncoder]) -> None:
    model = build()
    names, size = list(model.network.state_dict()), len(model.to_bytes())
    model.begin_update(batch(load()))
    assert list(model.network.state_dict()) == names
    assert len(model.to_bytes()) == size


def test_only_the_blocks_up_to_the_layer_are_kept(load: Callable[..., TeacherEncoder]) -> None:
    assert [len(load(layer=layer).encoder.body.blocks) for layer in (0, 1, None)] == [1, 2, 3]
    assert (load().layer, load().student_layer) == (2, 1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layer": 3}, r"\[teacher\] layer must be from 0 to 2, the layers of the teacher .*, but got 3"),
        ({"layer": -1}, r"\[teacher\] layer must be from 0 to 2"),
        ({"student_layer": 2}, r"\[teacher\] student_layer must be from 0 to 1, the layers of the student, .* got 2"),
        (
            {"relation_heads": 3},
            r"relation_heads must divide .* 24 of the teacher and 16 of .*got 3.*e.g. 2",
        ),
        ({"window": 21}, r"has 20 positions, but model.window is 21.*Set model.window to 20 or less"),
    ],
)
def test_a_teacher_that_does_not_fit_is_refused(
    load: Callable[..., TeacherEncoder], changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        load(**changes)


def test_a_teacher_of_another_vocabulary_is_refused(load: Callable[..., TeacherEncoder], tmp_path: Path) -> None:
    other = write_vocabulary(tmp_path / "other", prefix="v")
    with pytest.raises(ValueError, match=r"teacher .* another vocabulary .*5 pieces in both.*paths\.token"):
        load(tokenizer=other)


def test_a_teacher_that_is_not_there_is_named(load: Callable[..., TeacherEncoder], tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        load(name=str(tmp_path / "nowhere"))
