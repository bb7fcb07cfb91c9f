"""Each kernel against its scalar twin, shape by shape: integers are equal, floats within a bound that is named.

Sums of floats are taken in another order. Where these decide about integers, inputs are multiples of 1/8, whose sums
and squares have no rounding, so that both get the same scale.
"""

from ctypes import CDLL, byref, c_int, c_int64, c_void_p

import numpy as np
import pytest

from spacy_electra.model.inference.library import CLayerNorm, CLinear
from spacy_electra.model.inference.native import GEMM_INT8, GEMM_INT16

NORM = 1e-5  # of a layer norm, whose numbers are about 1
GELU = {GEMM_INT16: 4e-5, GEMM_INT8: 2e-4}  # of the polynomials, as activations.h says
ATTENTION = 3e-4  # of the largest value: probabilities are rounded to int16
PRECISIONS = pytest.mark.parametrize("precision", [GEMM_INT8, GEMM_INT16])
SIZES = pytest.mark.parametrize("size", [64, 128, 192, 320, 512, 1024])
Arrays = dict[str, np.ndarray]


def call(library: CDLL, name: str, *arguments: object) -> None:
    """Arrays go as pointers, whole numbers as int64; structures stand behind `byref`."""
    given = [c_void_p(x.ctypes.data) if isinstance(x, np.ndarray) else x for x in arguments]
    getattr(library, f"call_{name}")(*[c_int64(x) if isinstance(x, int) else x for x in given])


def random(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def eighths(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(-64, 65, shape).astype(np.float32) / 8


def integers(low: int, high: int, *shape: int, dtype: type, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(low, high + 1, shape).astype(dtype)


def linear(outputs: int, precision: int, inputs: int = 64) -> tuple[CLinear, Arrays]:
    """A layer without weights, and what it points to."""
    held = {name: random(outputs, seed=n) for n, name in enumerate(("scales", "weight_sums", "bias"))}
    pointers = {name: array.ctypes.data for name, array in held.items()}
    return CLinear(**pointers, in_features=inputs, out_features=outputs, precision=precision), held


def layer_norm(width: int) -> tuple[CLayerNorm, Arrays]:
    held = {name: random(width, seed=n) for n, name in enumerate(("gamma", "beta"), start=7)}
    return CLayerNorm(**{name: array.ctypes.data for name, array in held.items()}, eps=1e-6), held


@PRECISIONS
@pytest.mark.parametrize("rows", [1, 2, 3, 4, 5, 6, 7, 13])
@pytest.mark.parametrize(("columns", "depth"), [(16, 1), (32, 5), (48, 128), (64, 129), (80, 300), (192, 64)])
def test_gemm(kernels: CDLL, twin: CDLL, precision: int, rows: int, columns: int, depth: int) -> None:
    if precision == GEMM_INT8:
        x = integers(0, 255, rows, 4 * (depth + 3), dtype=np.uint8)
        weights = integers(-127, 127, columns * depth, 4, dtype=np.int8, seed=1)
    else:  # 256 products of the largest are just below 2^31
        x = integers(-2000, 2000, rows, 2 * (depth + 3), dtype=np.int16)
        weights = integers(-4000, 4000, columns * depth, 2, dtype=np.int16, seed=1)
    sums = [np.full((rows, columns), np.nan, np.float32) for _ in range(2)]
    for library, out in zip((kernels, twin), sums, strict=True):
        call(library, "gemm", c_int(precision), x, depth + 3, rows, weights, columns, depth, out)
    assert np.abs(sums[0]).max() > 0
    assert np.array_equal(*sums)


@pytest.mark.parametrize("length", [1, 5, 16, 17, 63, 64, 65, 100, 129])
@pytest.mark.parametrize("head_dim", [16, 48, 64, 128])
def test_packing(kernels: CDLL, twin: CDLL, length: int, head_dim: int) -> None:
    room, stride = -(-length // 16) * 16, 3 * head_dim
    rows = integers(-32768, 32767, length, stride, dtype=np.int16)
    for name, channels in (("pack_keys", head_dim), ("pack_keys", head_dim // 2), ("pack_values", head_dim)):
        packed = [np.full(-(-head_dim // 32) * 16 * room, 7, np.int32) for _ in range(2)]  # as plan_buffers
        for library, out in zip((kernels, twin), packed, strict=True):
            call(library, name, rows, stride, length, channels, out)
        size = room * channels // 2  # what lies behind is never read
        assert np.array_equal(packed[0][:size], packed[1][:size]), (name, channels)
    offsets = [np.full(room, np.nan, np.float32) for _ in range(2)]
    for library, out in zip((kernels, twin), offsets, strict=True):
        call(library, "sum_packed_keys", packed[0], room, head_dim // 4, out)
    assert np.array_equal(*offsets)


def quantized(library: CDLL, name: str, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The integers, and their scale and minimum."""
    out = np.zeros(len(x), np.int16 if name == "quantize_int16" else np.uint8)
    params = np.zeros(2, np.float32)
    call(library, name, x, len(x), out, params)
    return out, params


@SIZES
@pytest.mark.parametrize("name", ["quantize_int16", "quantize_int8_symmetric", "quantize_int8_rotated"])
def test_quantization(kernels: CDLL, twin: CDLL, name: str, size: int) -> None:
    for x in (eighths(size), np.zeros(size, np.float32), np.full(size, 0.5, np.float32)):
        found, expected = (quantized(library, name, x) for library in (kernels, twin))
        assert np.array_equal(found[0], expected[0])
        assert np.array_equal(found[1], expected[1])
    found, expected = (quantized(library, name, random(size)) for library in (kernels, twin))
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-5)
    assert np.abs(found[0].astype(int) - expected[0].astype(int)).max() <= 1  # halves, where scales differ in a bit
    for number in (np.nan, np.inf):
        x = random(size)
        x[size // 3] = number
        assert [np.isnan(quantized(library, name, x)[1][0]) for library in (kernels, twin)] == [True, True]


@SIZES
def test_embeddings(kernels: CDLL, twin: CDLL, size: int) -> None:
    norm, held = layer_norm(size)
    rows = [np.zeros(size, np.float32) for _ in range(2)]
    for library, out in zip((kernels, twin), rows, strict=True):
        call(library, "add_and_norm_embeddings", random(size), random(size, seed=1), out, size, byref(norm))
    assert len(held) == 2
    np.testing.assert_allclose(*rows, atol=NORM, rtol=0)


@PRECISIONS
@SIZES
def test_outputs_and_their_norm(kernels: CDLL, twin: CDLL, precision: int, size: int) -> None:
    layer, held = linear(size, precision)
    norm, of_norm = layer_norm(size)
    params = np.array([[0.02, -0.3]] * 6, np.float32)
    outputs, rows = [np.zeros(16, np.float32) for _ in range(2)], [random(6, size) for _ in range(2)]
    for library, out, x in zip((kernels, twin), outputs, rows, strict=True):
        sums = 50 * random(6, size, seed=1)
        call(library, "dequantize", byref(layer), sums, params, size - 16, 16, out)
        call(library, "add_and_norm", x, byref(layer), sums, params, 6, byref(norm))
    assert len(held) + len(of_norm) == 5
    np.testing.assert_allclose(*outputs, atol=1e-6, rtol=1e-6)
    np.testing.assert_allclose(*rows, atol=NORM, rtol=0)


@PRECISIONS
@SIZES
def test_gelu(kernels: CDLL, twin: CDLL, precision: int, size: int) -> None:
    up, held = linear(size, precision)
    down, _ = linear(64, precision, inputs=size)
    held["scales"][:] = 1.0
    sums, params = random(size, seed=1).clip(-3, 3), np.array([1.0, 0.0], np.float32)
    held["bias"][:] = 0.0
    numbers = []
    for library in (kernels, twin):
        words, result = np.zeros(size // (4 if precision == GEMM_INT8 else 2), np.int32), np.zeros(2, np.float32)
        call(library, "gelu_and_quantize", byref(up), byref(down), sums, params, words, result)
        integers_of = words.view(np.uint8 if precision == GEMM_INT8 else np.int16)
        numbers.append(result[1] + result[0] * integers_of)
    # a number of int8 is a sum of up to 16, and each of both roundings is off by half a step at most
    bound = result[0] + (16 if precision == GEMM_INT8 else 1) * GELU[precision]
    np.testing.assert_allclose(*numbers, atol=bound, rtol=0)


@PRECISIONS
@pytest.mark.parametrize("head_dim", [16, 48, 64, 128])
@pytest.mark.parametrize(("length", "begin", "end"), [(1, 0, 1), (7, 0, 7), (16, 3, 10), (33, 0, 33), (129, 60, 129)])
def test_attention(kernels: CDLL, twin: CDLL, precision: int, head_dim: int, length: int, begin: int, end: int) -> None:
    qkv = integers(-8000, 8000, length, 3, head_dim, dtype=np.int16)
    if precision == GEMM_INT8:
        qkv[:, :2].view(np.uint8)[..., :head_dim] = integers(1, 255, length, 2, head_dim, dtype=np.uint8, seed=1)
    unit = 1 / 8000 if precision == GEMM_INT16 else 1 / 100
    scales = np.abs(random(length, 3, seed=2)) * np.array([unit, unit, 1 / 8000], np.float32)
    out = [np.full((length, head_dim), 7.0, np.float32) for _ in range(2)]
    for library, context in zip((kernels, twin), out, strict=True):
        call(library, "attend", c_int(precision), qkv, scales, length, head_dim, begin, end, context)
    assert (out[0][:begin] == 7.0).all()
    assert (out[0][end:] == 7.0).all()
    largest = np.abs(qkv[:, 2] * scales[:, 2:]).max()
    np.testing.assert_allclose(*out, atol=ATTENTION * largest, rtol=0)
