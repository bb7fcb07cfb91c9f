"""Which backend is chosen for which machine, what is said of those that are not, and that they agree."""

import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from spacy_electra.model.inference import library
from spacy_electra.model.inference.backend import (
    RULES,
    Backend,
    Machine,
    attention_for,
    choose_backend,
    machine_of,
    passed_over,
    prepare_backend,
)
from spacy_electra.model.inference.packed import PackedBatch
from spacy_electra.model.network.attention import sdpa, sdpa_in_float32
from spacy_electra.model.network.encoder import Encoder, EncoderShape

CPU = torch.device("cpu")
FITS = EncoderShape(layers=2, width=128, feed_forward=192, heads=4, embedding=32, vocab=50, positions=140)
NARROW = replace(FITS, width=96)

OLD = Machine("cpu")  # AVX2 alone
AVX512 = Machine("cpu", onednn_bf16=True)
CASCADE_LAKE = replace(AVX512, vnni=True)
ZEN4 = replace(CASCADE_LAKE, avx512_bf16=True)
SAPPHIRE_RAPIDS = replace(ZEN4, amx=True)
WITHOUT_KERNELS = replace(ZEN4, kernels_error="the package spacy-electra-kernels is not installed")
WITHOUT_ONEDNN = replace(SAPPHIRE_RAPIDS, onednn_bf16=False, vnni=False)
PASCAL, VOLTA, AMPERE = (Machine("cuda", cuda_capability=number) for number in ((6, 0), (7, 0), (8, 0)))
APPLE = Machine("mps")

FP32, BF16, FP16 = torch.float32, torch.bfloat16, torch.float16
# machine, shape: backend of "auto" and its type of training, backend of "bf16", backend of "int8"
TABLE = [
    (OLD, FITS, Backend.EAGER_FP32, FP32, Backend.EAGER_BF16, Backend.EAGER_FP32),
    (AVX512, FITS, Backend.EAGER_FP32, FP32, Backend.ONEDNN_BF16, Backend.EAGER_FP32),
    (CASCADE_LAKE, FITS, Backend.NATIVE_INT16, FP32, Backend.NATIVE_INT16, Backend.NATIVE_INT8),
    (CASCADE_LAKE, NARROW, Backend.EAGER_FP32, FP32, Backend.ONEDNN_BF16, Backend.EAGER_FP32),
    (ZEN4, FITS, Backend.NATIVE_INT16, BF16, Backend.NATIVE_INT16, Backend.NATIVE_INT8),
    (ZEN4, NARROW, Backend.ONEDNN_BF16, BF16, Backend.ONEDNN_BF16, Backend.ONEDNN_BF16),
    (WITHOUT_KERNELS, FITS, Backend.ONEDNN_BF16, BF16, Backend.ONEDNN_BF16, Backend.ONEDNN_BF16),
    (SAPPHIRE_RAPIDS, FITS, Backend.ONEDNN_BF16, BF16, Backend.ONEDNN_BF16, Backend.NATIVE_INT8),
    (SAPPHIRE_RAPIDS, NARROW, Backend.ONEDNN_BF16, BF16, Backend.ONEDNN_BF16, Backend.ONEDNN_BF16),
    (WITHOUT_ONEDNN, FITS, Backend.EAGER_BF16, BF16, Backend.EAGER_BF16, Backend.EAGER_BF16),
    (PASCAL, FITS, Backend.EAGER_FP32, FP32, Backend.EAGER_BF16, Backend.EAGER_FP32),
    (VOLTA, FITS, Backend.EAGER_FP16, FP16, Backend.EAGER_BF16, Backend.EAGER_FP16),
    (AMPERE, FITS, Backend.EAGER_BF16, BF16, Backend.EAGER_BF16, Backend.EAGER_BF16),
    (APPLE, FITS, Backend.EAGER_FP32, FP32, Backend.EAGER_BF16, Backend.EAGER_FP32),
    (SAPPHIRE_RAPIDS, None, Backend.EAGER_BF16, BF16, Backend.EAGER_BF16, Backend.EAGER_BF16),  # of pretraining
]
On = Callable[[Machine], None]


@pytest.fixture
def on(assume: Callable[[Machine], None]) -> On:
    """Let the choice be that of another machine."""
    return assume


@pytest.mark.parametrize(("machine", "shape", "auto", "training", "bf16", "int8"), TABLE)
def test_the_choice_follows_from_the_machine(
    on: On,
    machine: Machine,
    shape: EncoderShape | None,
    auto: Backend,
    training: torch.dtype,
    bf16: Backend,
    int8: Backend,
) -> None:
    on(machine)
    found = {name: choose_backend(name, CPU, shape) for name in ("auto", "bf16", "int8")}
    assert {name: choice.prediction for name, choice in found.items()} == {"auto": auto, "bf16": bf16, "int8": int8}
    assert [choice.training for choice in found.values()] == [training, torch.bfloat16, training]


@pytest.mark.parametrize("machine", [OLD, ZEN4, SAPPHIRE_RAPIDS, AMPERE, APPLE])
@pytest.mark.parametrize(("name", "expected"), [("fp32", Backend.EAGER_FP32), ("fp16", Backend.EAGER_FP16)])
def test_float32_and_float16_are_what_was_asked_for_everywhere(
    on: On, machine: Machine, name: str, expected: Backend
) -> None:
    on(machine)
    choice = choose_backend(name, CPU, FITS)
    assert choice.prediction is expected
    assert choice.training == expected.dtype
    assert passed_over(name, CPU, FITS) == []


def test_every_rule_is_taken_by_some_machine() -> None:
    taken = {(name, row[place]) for row in TABLE for name, place in (("auto", 2), ("bf16", 4), ("int8", 5))}
    rules = {(name, rule.backend) for name in ("auto", "bf16") for rule in RULES[name]}
    assert rules | {("int8", Backend.NATIVE_INT8)} <= taken


def test_an_unknown_precision_lists_the_known() -> None:
    with pytest.raises(ValueError, match="one of auto, fp32, bf16, fp16, int8, but got 'int4'"):
        choose_backend("int4", CPU, FITS)


@pytest.mark.parametrize(
    ("precision", "machine", "shape", "over", "told", "remedy"),
    [
        ("auto", SAPPHIRE_RAPIDS, FITS, [Backend.NATIVE_INT16], "has AMX", 'precision = "int8"'),
        (
            "auto",
            WITHOUT_KERNELS,
            FITS,
            [Backend.NATIVE_INT16],
            "is not installed",
            "pip install spacy-electra[kernels]",
        ),
        ("auto", ZEN4, NARROW, [Backend.NATIVE_INT16], "width 96", "multiples of 64"),
        ("int8", OLD, FITS, [Backend.NATIVE_INT8], "no AVX512-VNNI", "Zen 4"),
        ("int8", AMPERE, FITS, [Backend.NATIVE_INT8], "run on CPUs alone", "run it on a CPU"),
        ("bf16", OLD, FITS, [Backend.NATIVE_INT16, Backend.ONEDNN_BF16], "no AVX512-VNNI", "Zen 4"),
        ("auto", PASCAL, FITS, [Backend.EAGER_BF16, Backend.EAGER_FP16], "no units for bfloat16", "Ampere"),
    ],
)
def test_what_a_faster_backend_lacks_is_told_with_what_would_change_that(
    on: On, precision: str, machine: Machine, shape: EncoderShape, over: list[Backend], told: str, remedy: str
) -> None:
    on(machine)
    found = passed_over(precision, CPU, shape)
    assert [each.backend for each in found][: len(over)] == over
    assert told in "; ".join(found[0].lacks)
    assert remedy in "; ".join(found[0].remedies)


def test_all_that_is_lacking_is_told(on: On) -> None:
    on(replace(SAPPHIRE_RAPIDS, kernels_error="they are not installed"))
    (found,) = passed_over("auto", CPU, NARROW)
    assert len(found.lacks) == len(found.remedies) == 3


@pytest.mark.parametrize(
    ("machine", "device", "dtype", "kernel"),
    [
        (SAPPHIRE_RAPIDS, "cpu", BF16, sdpa),
        (ZEN4, "cpu", BF16, sdpa_in_float32),
        (OLD, "cpu", FP16, sdpa_in_float32),
        (OLD, "cpu", FP32, sdpa),
        (PASCAL, "cuda", FP16, sdpa),
        (APPLE, "mps", FP16, sdpa_in_float32),
    ],
)
def test_attention_follows_from_the_machine(
    on: On, machine: Machine, device: str, dtype: torch.dtype, kernel: object
) -> None:
    on(machine)
    assert attention_for(torch.device(device), dtype) is kernel


def runs_here(name: Backend) -> bool:
    here = machine_of(CPU)
    if name in (Backend.NATIVE_INT8, Backend.NATIVE_INT16):
        return here.vnni and here.kernels_error is None
    return here.onednn_bf16 or name is not Backend.ONEDNN_BF16


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("name", Backend)
def test_every_backend_gives_the_vectors_of_float32_within_rounding(name: Backend) -> None:
    if not runs_here(name):
        pytest.skip("this processor cannot run it")
    torch.manual_seed(0)
    encoder, lengths = Encoder(FITS).requires_grad_(False), [7, 140, 1, 20, 20]
    for weight in encoder.parameters():
        if weight.dim() == 2:
            weight.normal_(std=weight.shape[1] ** -0.5)
    cu_seqlens = np.cumsum([0, *lengths])
    batch = PackedBatch(
        ids=np.random.default_rng(0).integers(0, FITS.vocab, cu_seqlens[-1]),
        positions=np.concatenate([np.arange(length) for length in lengths]),
        cu_seqlens=cu_seqlens,
        output_index=np.arange(cu_seqlens[-1])[::-1].copy(),
    )
    rows = [encoder(torch.from_numpy(row)[None])[0] for row in np.split(batch.ids, cu_seqlens[1:-1])]
    exact = torch.cat(rows)[torch.from_numpy(batch.output_index)]
    encode = prepare_backend(name, encoder, max_batch_tokens=64)
    vectors = encode(batch)
    assert vectors.dtype == torch.float32
    assert F.cosine_similarity(vectors, exact).min() > 0.99
    assert torch.allclose(vectors, exact, atol=1e-5) == (name is Backend.EAGER_FP32)
    assert encode.computed_tokens(batch) >= batch.tokens
    assert {p.dtype for p in encoder.parameters()} == {torch.float32}


@pytest.fixture
def library_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where the installed kernels would have their library."""
    package = ModuleType(library.PACKAGE)
    vars(package)["LIBRARY"] = tmp_path / "libspacy_electra_kernels.so"
    monkeypatch.setitem(sys.modules, library.PACKAGE, package)
    library._load.cache_clear()
    yield tmp_path / "libspacy_electra_kernels.so"
    library._load.cache_clear()


@pytest.mark.usefixtures("library_at")
def test_without_the_package_of_the_kernels_one_line_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, library.PACKAGE, None)
    monkeypatch.setattr(library, "HAS_WHEELS", True)
    with caplog.at_level("INFO", logger="spacy_electra"):
        error = library.load_error()
    assert error == "the package spacy-electra-kernels is not installed"
    assert "pip install spacy-electra[kernels]" in caplog.text


@pytest.mark.usefixtures("library_at")
def test_where_there_are_no_kernels_nobody_is_told_to_install_them(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, library.PACKAGE, None)
    monkeypatch.setattr(library, "HAS_WHEELS", False)
    with caplog.at_level("INFO", logger="spacy_electra"):
        assert library.load_error() == "they are for Linux on x86-64"
    assert not caplog.text


def test_a_file_that_is_no_library_is_told(library_at: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "HAS_WHEELS", True)
    library_at.write_bytes(b"no library")
    error = library.load_error()
    assert error is not None
    assert library_at.name in error


@pytest.mark.skipif(not runs_here(Backend.NATIVE_INT8), reason="no AVX512-VNNI or no kernels")
def test_kernels_of_another_abi_are_not_called(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "ABI_VERSION", -1)
    library._load.cache_clear()
    try:
        assert "this version of spacy-electra needs -1" in str(library.load_error())
    finally:
        library._load.cache_clear()
