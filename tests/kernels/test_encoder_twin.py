"""The path through ctypes on any processor: packed weights, structures, stages and threads, by the scalar twins."""

import subprocess
from collections.abc import Callable, Iterator
from ctypes import CDLL, POINTER, byref, c_int64
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from spacy_electra.model.inference import library
from spacy_electra.model.inference.native import NativeEncoder
from spacy_electra.model.inference.packed import PackedBatch
from spacy_electra.model.network.encoder import Encoder, EncoderShape

SHAPE = EncoderShape(layers=2, width=128, feed_forward=192, heads=4, embedding=32, vocab=50, positions=70)
LENGTHS = [1, 2, 70, 15, 16, 17, 31, 64, 65]
Use = Callable[[Path], None]


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Iterator[Use]:
    """Let the package load another library."""

    def load(path: Path) -> None:
        monkeypatch.setattr(library, "find_library", lambda: path)
        library._load.cache_clear()

    yield load
    monkeypatch.undo()
    library._load.cache_clear()


def made(shape: EncoderShape) -> Encoder:
    torch.manual_seed(0)
    encoder = Encoder(shape).requires_grad_(False)
    for weight in encoder.parameters():
        if weight.dim() == 1:
            weight.add_(0.1 * torch.randn_like(weight))
        else:
            weight.normal_(std=weight.shape[1] ** -0.5)
    return encoder


def batch_of(lengths: list[int]) -> PackedBatch:
    cu_seqlens = np.cumsum([0, *lengths])
    return PackedBatch(
        ids=np.random.default_rng(3).integers(0, 50, cu_seqlens[-1]),
        positions=np.concatenate([np.arange(length) for length in lengths]),
        cu_seqlens=cu_seqlens,
        output_index=np.arange(cu_seqlens[-1])[::-1].copy(),
    )


def one_by_one(encoder: Encoder, batch: PackedBatch) -> torch.Tensor:
    rows = np.split(batch.ids, batch.cu_seqlens[1:-1])
    return torch.cat([encoder(torch.from_numpy(row)[None])[0] for row in rows])[torch.from_numpy(batch.output_index)]


def error(answer: torch.Tensor, exact: torch.Tensor) -> float:
    return float((answer - exact).norm() / exact.norm())


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"embedding": 128},
        {"width": 64, "heads": 4, "feed_forward": 64},
        {"width": 192, "heads": 4, "feed_forward": 320},
        {"width": 256, "heads": 2},
    ],
    ids=str,
)
@pytest.mark.parametrize(("int8", "to_torch", "to_kernels"), [(False, 5e-4, 3e-4), (True, 0.02, 0.01)])
def test_kernels_twins_and_torch_agree(
    use: Use,
    kernels_path: Path,
    twin_path: Path,
    changed: dict[str, int],
    int8: bool,
    to_torch: float,
    to_kernels: float,
) -> None:
    encoder, batch = made(replace(SHAPE, **changed)), batch_of(LENGTHS)
    native = NativeEncoder(encoder, int8=int8)
    use(twin_path)
    by_twins = native(batch)
    use(kernels_path)
    by_kernels = native(batch)
    assert 0 < error(by_twins, one_by_one(encoder, batch)) < to_torch
    assert 0 < error(by_kernels, by_twins) < to_kernels


def test_threads_and_neighbours_change_no_bit(use: Use, twin_path: Path) -> None:
    use(twin_path)
    native, threads = NativeEncoder(made(SHAPE), int8=True), torch.get_num_threads()
    answers = []
    try:
        for number in (1, 3):
            torch.set_num_threads(number)
            answers += [native(batch_of([70] * 3)), native(batch_of([70] * 12))[-210:]]
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(answers[0], answers[2])
    assert torch.equal(answers[1], answers[3])
    assert torch.equal(answers[0], answers[1])


@pytest.mark.parametrize("field", ["num_heads", "hidden_size", "num_layers", "embedding_size"])
def test_shapes_that_cannot_be_are_refused(use: Use, twin_path: Path, field: str) -> None:
    use(twin_path)
    native = NativeEncoder(made(SHAPE), int8=False)
    setattr(native._encoder, field, 2**40)
    with pytest.raises(ValueError, match="the kernels refuse"):
        native(batch_of([4]))


def test_python_finds_every_member_where_c_has_it(twin: CDLL) -> None:
    offsets = POINTER(c_int64)()
    count = twin.count_offsets(byref(offsets))
    mirrored = [getattr(each, name).offset for each in library.STRUCTURES for name, _ in each._fields_]
    assert offsets[:count] == mirrored


def test_a_library_of_another_abi_is_refused_in_one_line(
    use: Use, twin_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(library, "ABI_VERSION", 99)
    with pytest.raises(ImportError, match=r"has ABI version \d, but this version of spacy-electra needs 99") as error:
        library.open_library(twin_path)
    assert "\n" not in str(error.value)


def test_a_library_with_structures_of_other_sizes_is_refused(twin_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "STRUCTURES", (library.CLayer, *library.STRUCTURES[1:]))
    with pytest.raises(ImportError, match=r"has structures of .* bytes, but expected"):
        library.open_library(twin_path)


def test_a_library_without_a_version_is_refused(compiler: str, tmp_path: Path) -> None:
    from_c = tmp_path / "old.c"
    from_c.write_text("int spacy_electra_interface(void) { return 4; }\n", encoding="utf8")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", tmp_path / "old.so", from_c], check=True)
    with pytest.raises(ImportError, match="has ABI version None"):
        library.open_library(tmp_path / "old.so")
