"""Compiled passes: equal to plain ones, invisible in what is saved, and done without where they cannot be had."""

import copy
import logging
import shutil
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo import register_backend
from torch._dynamo.backends.common import aot_autograd
from torch._dynamo.utils import counters

from spacy_electra.data.batch import Rows
from spacy_electra.training.compiling import (
    MOST_SHAPES,
    compile_training,
    compiled_or_plain,
    forget_passes,
    is_wanted,
    keep_gradients,
)
from spacy_electra.training.context import RunContext
from spacy_electra.training.loop import evaluate_dev, pretrain
from spacy_electra.training.micro_batches import settle_micro_batch
from spacy_electra.training.state import State
from spacy_electra.training.step import train_step

MakeContext = Callable[..., RunContext]
WeightsOf = Callable[[RunContext], dict[str, Tensor]]
NEEDS_COMPILER = pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")


@register_backend(name="refusing")
def refuse(module: object, inputs: object) -> object:
    raise RuntimeError("no program can be made\nof this")


def _pass_on(module: Any, inputs: object) -> Any:
    return module


refuse_backward = register_backend(
    aot_autograd(fw_compiler=_pass_on, bw_compiler=refuse), name="refusing_the_backward_pass"
)


@pytest.fixture(autouse=True)
def _nothing_compiled() -> Iterator[None]:
    torch.compiler.reset()
    counters.clear()
    yield
    torch.compiler.reset()


def programs() -> int:
    """How many programs were made."""
    return counters["stats"]["unique_graphs"]


def settled(context: RunContext) -> RunContext:
    settle_micro_batch(context, State())
    return context


def step_with_gradients(context: RunContext, rows: Rows) -> tuple[dict[str, float], dict[str, Tensor]]:
    """Losses of a step and the gradients that it follows."""
    gradients: dict[str, Tensor] = {}

    def look(parameters: Sequence[nn.Parameter]) -> None:
        names = {parameter: name for name, parameter in context.model.network.named_parameters()}
        gradients.update({names[p]: p.grad.clone() for p in parameters if p.grad is not None})

    context.model.shim.steps.before_step = look
    return train_step(context, rows).read(), gradients


def check_equal_steps(plain: RunContext, compiled: RunContext, *, shapes: int = 1) -> None:
    """Three steps, the second and third without another program than those of the first."""
    for first in (0, 4, 8):
        expected, gradients = step_with_gradients(plain, plain.train.batch(first, 4))
        losses, found = step_with_gradients(compiled, compiled.train.batch(first, 4))
        assert losses == pytest.approx(expected, rel=1e-5)
        assert found.keys() == gradients.keys() == dict(plain.model.network.named_parameters()).keys()
        for name, gradient in gradients.items():
            torch.testing.assert_close(found[name], gradient, rtol=1e-5, atol=1e-5)
        assert any(float(gradient.abs().max()) > 1e-3 for gradient in gradients.values())
        compiled.model.network.load_state_dict(plain.model.network.state_dict())  # or roundings add up
    assert compiled.model.shim.training_forward is not None
    assert programs() == shapes
    assert not counters["graph_break"]


@pytest.mark.parametrize(
    "model",
    [{}, {"objective": "mlm"}, {"generator": None, "dropout": 0.1, "activation_checkpointing": True}],
    ids=["electra", "mlm", "all at once"],
)
def test_a_compiled_step_is_the_plain_one_in_a_single_graph(make_context: MakeContext, model: dict[str, Any]) -> None:
    plain, compiled = (settled(make_context(model=model)) for _ in range(2))
    compile_training(compiled.model.shim, backend="aot_eager")
    check_equal_steps(plain, compiled)


def test_portions_of_two_sizes_are_two_programs(make_context: MakeContext) -> None:
    plain, compiled = (settled(make_context(micro_batch_size=3)) for _ in range(2))
    compile_training(compiled.model.shim, backend="aot_eager")
    check_equal_steps(plain, compiled, shapes=2)


@pytest.mark.slow
@NEEDS_COMPILER
@pytest.mark.parametrize("model", [{}, {"generator": None, "dropout": 0.1}], ids=["electra", "tied, with dropout"])
def test_a_step_through_the_cpp_compiler_is_the_plain_one(make_context: MakeContext, model: dict[str, Any]) -> None:
    plain, compiled = (settled(make_context(model=model)) for _ in range(2))
    compile_training(compiled.model.shim)
    check_equal_steps(plain, compiled)


def test_rows_that_one_stretch_fills_are_another_program_with_equal_steps(
    make_context: MakeContext, cyclic_store: Callable[..., Any]
) -> None:
    corpus = cyclic_store(documents=40, words=22)  # windows of 24 with [CLS] and [SEP]
    plain, compiled = (settled(make_context(corpus=corpus)) for _ in range(2))
    assert plain.train.batch(0, 4).is_one_segment
    compile_training(compiled.model.shim, backend="aot_eager")
    check_equal_steps(plain, compiled)


@pytest.mark.parametrize("backend", ["refusing", "refusing_the_backward_pass"])
def test_a_run_that_cannot_be_compiled_goes_on_as_a_plain_one_and_says_so_once(
    make_context: MakeContext, weights_of: WeightsOf, caplog: pytest.LogCaptureFixture, backend: str
) -> None:
    plain, failing = make_context(max_steps=3), make_context(max_steps=3)
    compile_training(failing.model.shim, backend=backend)
    with caplog.at_level(logging.WARNING, logger="spacy_electra"):
        results = [list(pretrain(context, State())) for context in (plain, failing)]
    assert [record.getMessage() for record in caplog.records if record.name == "spacy_electra"] == [
        "the forward pass could not be compiled (RuntimeError: no program can be made): training continues without "
        "compiling"
    ]
    assert [one.evaluation for one in results[0]] == [one.evaluation for one in results[1]]
    after = weights_of(plain)
    assert all(torch.equal(weights, after[name]) for name, weights in weights_of(failing).items())


def test_an_error_of_the_step_itself_is_not_taken_for_one_of_compiling(make_context: MakeContext) -> None:
    context = settled(make_context())
    compile_training(context.model.shim, backend="eager")
    rows = context.train.batch(0, 4)
    rows.ids[0, 1] = 10**6
    with pytest.raises(IndexError, match="out of range"):
        train_step(context, rows)


def test_a_lack_of_memory_is_left_to_those_who_take_fewer_rows(make_context: MakeContext) -> None:
    shim = make_context().model.shim
    compile_training(shim, backend="eager")

    def work() -> None:
        raise RuntimeError("backend='inductor' raised:\nOutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB.")

    with pytest.raises(RuntimeError, match="CUDA out of memory"):
        compiled_or_plain(shim, work)
    assert shim.training_forward is not None


def test_a_shape_after_the_first_few_runs_plainly_until_memory_ran_out(make_context: MakeContext) -> None:
    context = settled(make_context(batch_rows=6))
    shim = context.model.shim
    compile_training(shim, backend="eager")
    for count in range(1, MOST_SHAPES + 3):
        train_step(context, context.train.batch(0, count))
    assert programs() == MOST_SHAPES
    forget_passes(shim)
    train_step(context, context.train.batch(0, MOST_SHAPES + 2))
    assert programs() == MOST_SHAPES + 1


def test_counting_what_fits_and_evaluations_compile_nothing(make_context: MakeContext) -> None:
    context = make_context(micro_batch_size="auto")
    compile_training(context.model.shim, backend="eager")
    settle_micro_batch(context, State())
    evaluate_dev(context)
    assert programs() == 0
    train_step(context, context.train.batch(0, 4))
    assert programs() == 1


def test_compiling_shows_in_no_name_no_byte_and_no_copy(make_context: MakeContext) -> None:
    plain, compiled = (settled(make_context()) for _ in range(2))
    before = compiled.model.shim.to_bytes()
    compile_training(compiled.model.shim, backend="aot_eager")
    assert compiled.model.shim.to_bytes() == before
    for context in (plain, compiled):
        train_step(context, context.train.batch(0, 4))
    network = compiled.model.network
    assert type(network) is type(plain.model.network)
    assert network.state_dict().keys() == plain.model.network.state_dict().keys()
    assert compiled.model.shim.to_bytes() != before  # a step was taken
    copied = copy.deepcopy(compiled.model.shim)
    assert copied.to_bytes() == compiled.model.shim.to_bytes()
    assert copied.training_forward is None


def test_gradients_are_copied_for_cuda_graphs_alone(make_context: MakeContext) -> None:
    shim = make_context().model.shim
    compile_training(shim, backend="eager")
    parameter = next(shim.module.parameters())
    parameter.grad = gradient = torch.ones_like(parameter)
    keep_gradients(shim)
    assert parameter.grad is gradient
    shim.training_forward.on_card = True  # type: ignore[union-attr]
    keep_gradients(shim)
    assert parameter.grad is not gradient
    assert torch.equal(parameter.grad, gradient)


@pytest.mark.parametrize(
    ("setting", "device", "expected"), [("auto", "cpu", False), ("auto", "mps", False), (True, "cpu", True)]
)
def test_auto_compiles_neither_on_processors_nor_on_apples_cards(setting: Any, device: str, expected: bool) -> None:
    assert is_wanted(setting, torch.device(device)) == expected
