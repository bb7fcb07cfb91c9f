"""Choose the backend for prediction and the precision of training on a device. Only this module queries the processor.

The choice follows from the features of the device, never from measured speed.
"""

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from functools import cache

import torch

from spacy_electra.model.inference import native, onednn
from spacy_electra.model.inference.eager import EagerEncoder, cast
from spacy_electra.model.inference.library import load_error
from spacy_electra.model.inference.native import NativeEncoder
from spacy_electra.model.inference.packed import EncodeFn
from spacy_electra.model.network.attention import HALF, AttentionKernel, sdpa, sdpa_in_float32
from spacy_electra.model.network.encoder import Encoder, EncoderShape
from spacy_electra.model.precision import INT8, PRECISIONS, check_precision


class Backend(Enum):
    """A program that predicts, and its arithmetic."""

    EAGER_FP32 = "eager fp32"
    EAGER_BF16 = "eager bf16"
    EAGER_FP16 = "eager fp16"
    ONEDNN_BF16 = "onednn bf16"
    NATIVE_INT16 = "native int16"
    NATIVE_INT8 = "native int8"

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the weights that it is prepared from."""
        return DTYPES.get(self, torch.float32)


DTYPES = {
    Backend.EAGER_BF16: torch.bfloat16,
    Backend.EAGER_FP16: torch.float16,
    Backend.ONEDNN_BF16: torch.bfloat16,
}


@dataclass(frozen=True)
class Machine:
    """The features of a device that a choice depends on."""

    device: str  # torch's type of device
    cuda_capability: tuple[int, int] = (0, 0)
    amx: bool = False  # matrix tiles of bfloat16 and of int8
    avx512_bf16: bool = False
    vnni: bool = False  # dot products of int8 and of int16
    onednn_bf16: bool = False  # oneDNN's products of packed bfloat16 weights, which AVX512 is enough for
    kernels_error: str | None = None  # why the kernels in C cannot be loaded, which is looked at where they could run


_assumed: list[Machine] = []  # the last one counts


def machine_of(device: torch.device) -> Machine:
    """The features of a device, or those that `assume_machine` sets."""
    return _assumed[-1] if _assumed else _found(device)


@contextmanager
def assume_machine(machine: Machine) -> Iterator[None]:
    """Choose backends as for another machine, on every device and in all threads, until the block ends.

    Kernels do not check for the instructions that they need, so do not predict with a backend that this processor does
    not support.

    machine: the features to assume.
    """
    _assumed.append(machine)
    try:
        yield
    finally:
        _assumed.remove(machine)


@cache
def _found(device: torch.device) -> Machine:
    """torch has no public names for most of these questions, and older releases have none."""
    if device.type == "cuda":
        return Machine("cuda", cuda_capability=torch.cuda.get_device_capability(device))
    if device.type != "cpu":
        return Machine(device.type)
    has_vnni = _cpu_has("_is_vnni_supported")
    return Machine(
        device="cpu",
        amx=_cpu_has("_is_amx_tile_supported"),
        avx512_bf16=_cpu_has("_is_avx512_bf16_supported"),
        vnni=has_vnni,
        onednn_bf16=onednn.is_built_in() and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported()),
        kernels_error=load_error() if has_vnni else None,
    )


def _cpu_has(question: str) -> bool:
    return bool(getattr(torch.cpu, question, bool)())


@dataclass(frozen=True)
class Need:
    """A condition of a backend."""

    is_met: Callable[[Machine, EncoderShape | None], bool]
    lack: str  # what is said where it is not met; {machine} and {shape} are filled in
    remedy: str


CPU_ALONE = Need(lambda m, s: m.device == "cpu", "the C kernels run on CPUs alone", "run it on a CPU")
VNNI = Need(
    lambda m, s: m.vnni,
    "this processor has no AVX512-VNNI",
    "run it on an Intel Xeon from 2019 on, or on an AMD processor from Zen 4 on",
)
NO_AMX = Need(
    lambda m, s: not m.amx,
    "this processor has AMX, which oneDNN uses and the C kernels do not",
    'set precision = "int8" for the C kernels',
)
KERNELS = Need(
    lambda m, s: m.kernels_error is None,
    "the C kernels cannot be loaded: {machine.kernels_error}",
    "pip install spacy-electra[kernels], on Linux on x86-64",
)
KERNEL_WIDTHS = Need(
    lambda m, s: s is not None and native.supports(s),
    "the C kernels do not take width {shape.width}, feed-forward width {shape.feed_forward}, {shape.heads} heads and "
    "embedding {shape.embedding}",
    f"take a model whose widths are multiples of {native.PANEL}, and whose embedding and channels of a head are "
    f"multiples of {native.LANES}",
)
ONEDNN = Need(
    lambda m, s: s is not None and m.onednn_bf16,
    "oneDNN has no bfloat16 products here: they need AVX512 and a torch that was built with oneDNN",
    "run it on a processor with AVX512",
)
BF16_UNITS = Need(
    lambda m, s: m.amx or m.avx512_bf16 or m.cuda_capability >= (8, 0),  # NVIDIA Ampere
    "this device has no units for bfloat16",
    "run it on a CPU with AVX512-BF16 or AMX, or on an NVIDIA card from Ampere on",
)
FP16_UNITS = Need(
    lambda m, s: m.cuda_capability >= (7, 0),  # NVIDIA Volta
    "this device has no units for float16 that are known to be faster",
    "run it on an NVIDIA card from Volta on",
)


@dataclass(frozen=True)
class Rule:
    """A backend, and what it needs."""

    backend: Backend
    needs: tuple[Need, ...] = ()
    is_for_cpus: bool = False  # no matter on other devices

    def unmet(self, machine: Machine, shape: EncoderShape | None) -> list[Need]:
        found = [need for need in self.needs if not need.is_met(machine, shape)]
        return [CPU_ALONE] if CPU_ALONE in found else found


# For each precision the backends from the fastest to the slowest; the first whose needs are met is taken. The figures
# and their machines are in docs/backends.md.
#
# native int16 before onednn bf16: 1.2 to 2.3 times the words a second on an AMD EPYC (Zen 4), closer to float32
#   (docs/experiments/native-kernels.md and int16-kernels.md). In batches it was never measured on AMX.
# native int8: 1.6 to 1.7 times native int16 there (benchmarks/README.md); on a Xeon with AMX 1.2 times onednn bf16 in
#   batches. Scores may move, so no other precision takes it (docs/experiments/integer-kernel-scores.md).
# onednn bf16 before eager bf16: docs/experiments/packed-predictions.md. In float32 it gained nothing (the same page).
# bfloat16 before float16 on cards: losses need no scaling, so training and predictions share one type.
_INT16 = Rule(Backend.NATIVE_INT16, (VNNI, NO_AMX, KERNELS, KERNEL_WIDTHS), is_for_cpus=True)
_AUTO = (
    _INT16,
    Rule(Backend.ONEDNN_BF16, (BF16_UNITS, ONEDNN), is_for_cpus=True),
    Rule(Backend.EAGER_BF16, (BF16_UNITS,)),
    Rule(Backend.EAGER_FP16, (FP16_UNITS,)),
    Rule(Backend.EAGER_FP32),
)
RULES = {
    "auto": _AUTO,
    "fp32": (Rule(Backend.EAGER_FP32),),
    "bf16": (_INT16, Rule(Backend.ONEDNN_BF16, (ONEDNN,), is_for_cpus=True), Rule(Backend.EAGER_BF16)),
    "fp16": (Rule(Backend.EAGER_FP16),),
    INT8: (Rule(Backend.NATIVE_INT8, (CPU_ALONE, VNNI, KERNELS, KERNEL_WIDTHS)), *_AUTO),
}


def _rules(precision: str, machine: Machine) -> list[Rule]:
    return [rule for rule in RULES[precision] if machine.device == "cpu" or not rule.is_for_cpus]


# Training runs in torch alone (docs/experiments/training-kernels.md). "auto" takes the first type that has units.
TRAINING_DTYPES = ((torch.bfloat16, BF16_UNITS), (torch.float16, FP16_UNITS))


@dataclass(frozen=True)
class Choice:
    """How a device predicts and trains. Weights and their updates are always float32."""

    prediction: Backend
    training: torch.dtype  # in float16 the shim scales the losses


def choose_backend(precision: str, device: torch.device, shape: EncoderShape | None = None) -> Choice:
    """The meaning of a precision on a device.

    precision: "auto", "fp32", "bf16", "fp16" or "int8".
    shape: of the encoder that predicts; None for a network that only torch can run.
    Raises ValueError for other names.
    """
    check_precision(precision, known=[*PRECISIONS, INT8])
    machine = machine_of(device)
    taken = next(rule.backend for rule in _rules(precision, machine) if not rule.unmet(machine, shape))
    fastest = next((dtype for dtype, units in TRAINING_DTYPES if units.is_met(machine, shape)), torch.float32)
    return Choice(prediction=taken, training=PRECISIONS.get(precision, fastest))


@dataclass(frozen=True)
class PassedOver:
    """A faster backend that is not used, and why."""

    backend: Backend
    lacks: list[str]  # why not
    remedies: list[str]  # what would change that


def passed_over(precision: str, device: torch.device, shape: EncoderShape | None = None) -> list[PassedOver]:
    """The backends that would take precedence over the one that `choose_backend` takes, the fastest first."""
    machine, found = machine_of(device), []
    for rule in _rules(precision, machine):
        if not (unmet := rule.unmet(machine, shape)):
            break
        lacks = [need.lack.format(machine=machine, shape=shape) for need in unmet]
        found.append(PassedOver(rule.backend, lacks, [need.remedy for need in unmet]))
    return found


def attention_for(device: torch.device, dtype: torch.dtype) -> AttentionKernel:
    """The attention kernel for predictions, without dropout and gradients.

    On a CPU with AMX, torch's fused kernel is faster in half precision (docs/experiments/packed-predictions.md).
    """
    if device.type == "cuda" or dtype not in HALF or machine_of(device).amx:
        return sdpa
    return sdpa_in_float32


def prepare_backend(
    backend: Backend, encoder: Encoder, *, max_batch_tokens: int, int8_excluded: Collection[str] = ()
) -> EncodeFn:
    """Prepare a backend for the weights of an encoder, which it does not change.

    max_batch_tokens: maximum tokens that torch computes at once, padding included.
    int8_excluded: parts that stay in int16 under int8, of `files.int8.parts_of`.
    """
    if backend in (Backend.NATIVE_INT8, Backend.NATIVE_INT16):
        return NativeEncoder(encoder, int8=backend is Backend.NATIVE_INT8, excluded=int8_excluded)
    module = onednn.fused(encoder) if backend is Backend.ONEDNN_BF16 else cast(encoder, backend.dtype)
    assert isinstance(module, Encoder)
    kernel = attention_for(next(encoder.parameters()).device, backend.dtype)
    return EagerEncoder(module, kernel=kernel, max_batch_tokens=max_batch_tokens)
