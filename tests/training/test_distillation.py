"""Runs with a teacher: exact resuming, equal steps however they are cut, its weight, and what it leaves no trace in."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo.utils import counters

from spacy_electra.data.tokenizer.wordpiece import WordPiece
from spacy_electra.model.files.huggingface import save_encoder
from spacy_electra.model.network.encoder import Encoder, EncoderShape
from spacy_electra.model.teacher import load_teacher
from spacy_electra.training.checkpoint import read_checkpoint
from spacy_electra.training.compiling import compile_training
from spacy_electra.training.context import RunContext
from spacy_electra.training.distillation import Distillation
from spacy_electra.training.loop import StepResult, pretrain
from spacy_electra.training.micro_batches import settle_micro_batch
from spacy_electra.training.run import Run, restore, save_state, train_on_disk
from spacy_electra.training.state import State
from spacy_electra.training.step import train_step

MakeContext = Callable[..., RunContext]
MakeRun = Callable[..., Run]
WeightsOf = Callable[[RunContext], dict[str, Tensor]]


@pytest.fixture
def taught(tmp_path: Path, make_context: MakeContext, tokenizer: WordPiece) -> Callable[..., RunContext]:
    """Builds a context with a deeper and wider teacher; keywords go to `make_context`."""
    shape = EncoderShape(layers=2, width=24, feed_forward=32, heads=3, embedding=24, vocab=tokenizer.size, positions=32)
    torch.manual_seed(0)
    encoder = Encoder(shape)
    for parameter in encoder.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    save_encoder(encoder, tokenizer, tmp_path / "teacher")

    def make(*, weight: float = 2.0, until: float = 1.0, **settings: Any) -> RunContext:
        context = make_context(**settings)
        teacher = load_teacher(
            str(tmp_path / "teacher"),
            tokenizer=tokenizer,
            window=context.train.window,
            student=context.model.network.shape,
            layer=None,
            student_layer=None,
            relation_heads=4,
            device=context.device,
        )
        return replace(context, distillation=Distillation(teacher=teacher, weight=weight, until=until))

    return make


def go(run: Run, context: RunContext, state: State | None = None, *, until: int | None = None) -> StepResult:
    """Train, and leave without a further word after step `until`."""
    for result in train_on_disk(run, context, state or State()):
        if result.state.step == until:
            break
    return result


def losses_of(context: RunContext) -> list[dict[str, float]]:
    return [result.evaluation.losses for result in pretrain(context, State()) if result.evaluation]


def step_gradients(context: RunContext, *, progress: float = 0.0) -> dict[str, Tensor]:
    """The gradients of one step, a tenth of which are the optimizer's first means."""
    context.optimizer.grad_clip = 0.0
    settle_micro_batch(context, State())
    train_step(context, context.train.batch(0, 4), progress=progress)
    return {name: mean.clone() for name, mean in context.model.shim.steps.adamw_for(context.optimizer).means.items()}


@pytest.mark.parametrize("saved_at", [3, 5])  # amid the teacher's work, and behind its end
@pytest.mark.parametrize("model", [{}, {"objective": "mlm"}], ids=["electra", "mlm"])
def test_a_resumed_run_with_a_teacher_is_the_undisturbed_one_to_the_last_bit(
    tmp_path: Path,
    taught: MakeContext,
    make_run: MakeRun,
    weights_of: WeightsOf,
    saved_at: int,
    model: dict[str, Any],
) -> None:
    settings: dict[str, Any] = {"model": model, "until": 0.5}
    whole_run, whole = make_run(tmp_path / "whole"), taught(**settings)
    go(whole_run, whole)
    run, context = make_run(tmp_path / "broken"), taught(**settings)
    save_state(run, context, go(run, context, until=saved_at).state)
    resumed = taught(**settings)
    go(run, resumed, restore(resumed, run.folder))
    found = weights_of(resumed)
    assert all(torch.equal(found[name], tensor) for name, tensor in weights_of(whole).items())
    records = [(one.folder / "metrics.jsonl").read_text(encoding="utf8").splitlines() for one in (run, whole_run)]
    assert records[0] == records[1]
    assert ["teacher" in json.loads(line)["losses"] for line in records[0]] == [True, True, False, False]


@pytest.mark.parametrize("model", [{}, {"objective": "mlm"}, {"generator": None}], ids=["electra", "mlm", "tied"])
def test_a_step_in_micro_batches_has_the_gradients_of_the_whole_batch(
    taught: MakeContext, model: dict[str, Any]
) -> None:
    whole, parts = (step_gradients(taught(micro_batch_size=size, model=model, weight=50.0)) for size in (4, 1))
    alone = step_gradients(taught(micro_batch_size=4, model=model, weight=0.0))
    for name, gradient in parts.items():
        torch.testing.assert_close(gradient, whole[name], rtol=1e-4, atol=1e-6)
    changed = [name for name, gradient in whole.items() if not torch.allclose(gradient, alone[name], rtol=1e-2)]
    assert "discriminator.blocks.0.attention.qkv.weight" in changed


def test_the_weight_falls_to_nothing_at_its_end(taught: MakeContext) -> None:
    distillation = taught(weight=2.0, until=0.8).distillation
    assert distillation is not None
    weights = [distillation.weight_at(progress) for progress in (0.0, 0.2, 0.4, 0.8, 1.0)]
    assert weights == pytest.approx([2.0, 1.5, 1.0, 0.0, 0.0])


def test_the_teacher_counts_as_much_as_its_weight_says(taught: MakeContext) -> None:
    """Half the weight, by setting or by the progress of the run, is half of what it adds to the gradients."""
    alone, full, half, later = (
        step_gradients(context, progress=progress)
        for context, progress in (
            (taught(weight=0.0), 0.0),
            (taught(weight=8.0), 0.0),
            (taught(weight=4.0), 0.0),
            (taught(weight=8.0, until=0.5), 0.25),
        )
    )
    name = "discriminator.blocks.0.attention.qkv.weight"
    assert float((full[name] - alone[name]).norm()) > 0.1 * float(alone[name].norm())
    torch.testing.assert_close(half[name] - alone[name], (full[name] - alone[name]) / 2, rtol=1e-3, atol=1e-6)
    assert torch.equal(half[name], later[name])


def test_after_its_end_a_run_is_one_without_a_teacher(
    taught: MakeContext, make_context: MakeContext, weights_of: WeightsOf
) -> None:
    contexts = taught(until=0.5), make_context()
    state = State(step=4, row=16)
    losses = [
        [result.evaluation.losses for result in pretrain(context, state) if result.evaluation] for context in contexts
    ]
    assert losses[0] == losses[1]
    weights, expected = (weights_of(context) for context in contexts)
    assert all(torch.equal(weights[name], tensor) for name, tensor in expected.items())


def test_the_loss_of_the_teacher_is_a_mean_over_pieces_and_falls(taught: MakeContext) -> None:
    losses = losses_of(taught(max_steps=60, eval_frequency=30, weight=5.0, learn_rate=0.01))
    first, last = (one["teacher"] for one in losses)
    assert 0.0 < last < 0.9 * first < 10.0


def test_a_checkpoint_holds_nothing_of_the_teacher(
    tmp_path: Path, taught: MakeContext, make_context: MakeContext, make_run: MakeRun
) -> None:
    run, context, alone = make_run(tmp_path / "run"), taught(), make_context()
    go(run, context)
    checkpoint = read_checkpoint(run.folder)
    assert checkpoint is not None
    assert checkpoint.weights.keys() == alone.model.network.state_dict().keys()
    assert checkpoint.optimizer.keys() == alone.model.shim.steps.adamw_for(alone.optimizer).named_state().keys()


def test_the_rows_of_a_pass_are_counted_with_the_teacher(taught: MakeContext) -> None:
    context = taught(micro_batch_size="auto")
    settle_micro_batch(context, State())
    assert context.micro_batch.rows == 4


def test_compiled_steps_with_and_without_the_teacher_are_the_plain_ones(taught: MakeContext) -> None:
    torch.compiler.reset()
    counters.clear()
    plain, compiled = (taught(until=0.5, max_steps=8) for _ in range(2))
    compile_training(compiled.model.shim, backend="aot_eager")
    for found, expected in zip(losses_of(compiled), losses_of(plain), strict=True):
        assert found == pytest.approx(expected, rel=1e-4)
    assert compiled.model.shim.training_forward is not None
    assert counters["stats"]["unique_graphs"] == 2
    assert not counters["graph_break"]
    torch.compiler.reset()
