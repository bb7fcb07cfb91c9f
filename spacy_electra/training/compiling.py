"""Compile the training passes, and fall back to eager passes if that fails. Weights and evaluation are not affected.

The compiled function is an attribute of the shim, beside the torch module, so names, checkpoints and copies do not
change.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Literal, TypeVar

import torch
from torch import nn

from spacy_electra.model.network.electra import Output
from spacy_electra.model.pretrainer import Batch, Inputs
from spacy_electra.model.shim import Forward, TorchShim
from spacy_electra.training.memory import is_out_of_memory

logger = logging.getLogger("spacy_electra")

CAPABILITY = (7, 0)  # NVIDIA Volta, the first that Triton writes programs for
MOST_SHAPES = 4  # whole and last micro-batch of a step, each with and without segments to keep apart

_Result = TypeVar("_Result")
Shape = tuple[int, int, int, bool]
Pass = Callable[[nn.Module, Inputs], Output]  # the shim's `Forward` over batches


class CompiledForward:
    """A forward pass that is compiled for each of the first few input shapes; other shapes run eagerly."""

    def __init__(self, forward: Forward, *, backend: str = "inductor", on_card: bool = False):
        """forward: of a pretraining model's shim.
        backend: torch's name of a compiler.
        on_card: use CUDA graphs.
        """
        self.plain: Pass = forward
        self.on_card = on_card
        mode = "reduce-overhead" if on_card and backend == "inductor" else None
        self._compiled: Pass = torch.compile(forward, backend=backend, mode=mode, dynamic=False, fullgraph=True)
        self._shapes: set[Shape] = set()

    def __call__(self, network: nn.Module, inputs: Inputs) -> Output:
        shape = _shape_of(inputs[0])
        if shape not in self._shapes and len(self._shapes) >= MOST_SHAPES:
            return self.plain(network, inputs)
        self._shapes.add(shape)
        if self.on_card:
            torch.compiler.cudagraph_mark_step_begin()
        return self._compiled(network, inputs)

    def forget(self) -> None:
        """Drop all compiled programs and the memory of CUDA graphs; the next pass compiles again."""
        self._shapes.clear()
        torch.compiler.reset()


def _shape_of(batch: Batch) -> Shape:
    rows, chosen = batch.rows, batch.masked.original.shape[1]
    return (*rows.ids.shape, chosen, rows.is_one_segment)


def is_wanted(setting: bool | Literal["auto"], device: torch.device) -> bool:
    """Whether passes are compiled on `device`.

    setting: `system.compile`; "auto" means on NVIDIA GPUs that Triton supports.
    """
    if setting != "auto":
        return setting
    if device.type != "cuda" or find_spec("triton") is None:
        return False
    return torch.cuda.get_device_capability(device) >= CAPABILITY


def compile_training(shim: TorchShim, *, backend: str = "inductor") -> None:
    """Let the shim's training passes run compiled until the module is moved; the first pass compiles them."""
    on_card = shim.device.type == "cuda"
    shim.training_forward = CompiledForward(shim.forward, backend=backend, on_card=on_card)


@contextmanager
def plain_passes(shim: TorchShim) -> Iterator[None]:
    """Run training passes eagerly until the block ends."""
    compiled, shim.training_forward = shim.training_forward, None
    try:
        yield
    finally:
        shim.training_forward = compiled


def compiled_or_plain(shim: TorchShim, work: Callable[[], _Result]) -> _Result:
    """The result of `work`. If its compiled passes fail, it is repeated eagerly, and so are all later ones.

    Errors for lack of memory are left to the caller. If the eager passes fail as well, their error is raised.
    """
    if shim.training_forward is None:
        return work()
    failure = ""
    try:
        return work()
    except Exception as error:  # its traceback holds tensors, so nothing is done in here
        if is_out_of_memory(error):
            raise
        failure = _first_line(error)
    shim.training_forward = None
    shim.steps.forget_gradients()
    torch.compiler.reset()
    logger.warning("the forward pass could not be compiled (%s): training continues without compiling", failure)
    return work()


def _first_line(error: BaseException) -> str:
    """What went wrong at the bottom of it, in one line; torch's compiler hands on a backend's error as an attribute."""
    while (inner := getattr(error, "inner_exception", None) or error.__cause__) is not None:
        error = inner
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def forget_passes(shim: TorchShim) -> None:
    """Drop the remains of failed passes: gradients, and compiled programs, whose memory is needed."""
    shim.steps.forget_gradients()
    if isinstance(shim.training_forward, CompiledForward):
        shim.training_forward.forget()


def keep_gradients(shim: TorchShim) -> None:
    """Copy gradients out of the memory of CUDA graphs, which the next pass overwrites. Later gradients are added."""
    if isinstance(shim.training_forward, CompiledForward) and shim.training_forward.on_card:
        for parameter in shim.module.parameters():
            if parameter.grad is not None:
                parameter.grad = parameter.grad.clone()
