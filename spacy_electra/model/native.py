"""An encoder for predictions in kernels of our own: all blocks in one call, in integers, on CPUs with AVX512-VNNI.

Each of ten operations that torch has for a block reads and writes all slots of a batch, and begins with what Python and
torch's dispatch take. The kernels (`kernels/encoder.c`) take some windows through all blocks while they lie in a core's
cache.

Legend: N rows of the answer, S slots of all windows, W windows, D width.
"""

from collections.abc import Collection
from ctypes import POINTER, Structure, byref, c_float, c_int64, c_void_p
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from spacy_electra.model.encoder import Block, Encoder, EncoderShape
from spacy_electra.model.int8 import ATTENTION, FEED_FORWARD, TINY, Quantized, part_of, quantize
from spacy_electra.model.library import LANES, PANEL, check_answer, is_cut, library, predicts_in_kernels
from spacy_electra.model.parameter_shapes import check_shapes

ROTATED = 16  # registers of a block at most
BYTES, SHORTS = 1, 2  # kinds of products, as products.h counts them
PART = 256  # inputs that are summed in 32 bits
LONGEST = 65_400  # root of the sum of squares of a part's levels; twice what rows may have
HIGHEST = 32_767  # level
ARRAYS = ("ids", "positions", "places", "starts", "lengths")


@dataclass(frozen=True)
class Windows:
    """Windows on an axis of slots, and where their vectors go. All arrays are int64 and contiguous."""

    ids: np.ndarray  # (S,)
    positions: np.ndarray  # (S,) in the window
    places: np.ndarray  # (S,) row of the answer that takes a slot's vector, -1 for none
    starts: np.ndarray  # (W,) first slots
    lengths: np.ndarray  # (W,)
    rows: int  # N


class _Linear(Structure):
    _fields_ = (
        *((name, c_void_p) for name in ("weights", "scale", "total", "bias")),
        *((name, c_int64) for name in ("inputs", "outputs", "kind")),
    )


class _Norm(Structure):
    _fields_ = (("gain", c_void_p), ("shift", c_void_p), ("eps", c_float))


class _Layer(Structure):
    _fields_ = (
        *((name, _Linear) for name in ("qkv", "output", "up", "down")),
        ("attention_norm", _Norm),
        ("norm", _Norm),
    )


class _Encoder(Structure):
    _fields_ = (
        ("word", c_void_p),
        ("position", c_void_p),
        ("norm", _Norm),
        ("embedding", c_int64),
        ("project", _Linear),
        ("layers", POINTER(_Layer)),
        *((name, c_int64) for name in ("count", "width", "heads", "vocabulary", "positions")),
    )


class _Windows(Structure):
    _fields_ = (
        *((name, c_void_p) for name in ARRAYS),
        *((name, c_int64) for name in ("windows", "slots", "rows")),
        ("out", c_void_p),
    )


class NativeEncoder(nn.Module):
    """What an `Encoder` computes without dropout, from its embeddings and packed copies of its linear layers."""

    def __init__(self, encoder: Encoder, *, in_bytes: bool, excluded: Collection[str] = ()):
        """in_bytes: multiply bytes, but shorts in the first product of the first block and to project embeddings.
        excluded: parts that multiply shorts nevertheless, of `int8.parts_of`. Raises ValueError for an encoder whose
        weights are not those of its shape.
        """
        super().__init__()
        check_shapes(encoder.shape, encoder.state_dict())
        self._held: list[Tensor] = []  # what the structures point to
        shape, body, embeddings = encoder.shape, encoder.body, encoder.embeddings
        self.width, self.vocab, self.positions = shape.width, shape.vocab, shape.positions
        layers = (_Layer * shape.layers)()
        for number, block in enumerate(body.blocks):
            assert isinstance(block, Block)
            attends_in_bytes, feeds_in_bytes = (
                in_bytes and part_of(number, name) not in excluded for name in (ATTENTION, FEED_FORWARD)
            )
            layers[number] = _Layer(
                qkv=self._linear(block.attention.qkv, in_bytes=attends_in_bytes and number > 0),
                output=self._linear(block.attention.output, in_bytes=attends_in_bytes),
                up=self._linear(block.feed_forward.up, in_bytes=feeds_in_bytes),
                down=self._linear(block.feed_forward.down, in_bytes=feeds_in_bytes),
                attention_norm=self._norm(block.norm1),
                norm=self._norm(block.norm2),
            )
        self._encoder = _Encoder(
            word=self._hold(embeddings.word.weight),
            position=self._hold(embeddings.position.weight + embeddings.token_type.weight[0]),
            norm=self._norm(embeddings.norm),
            embedding=shape.embedding,
            project=_Linear() if isinstance(body.project, nn.Identity) else self._linear(body.project, in_bytes=False),
            layers=layers,
            count=shape.layers,
            width=shape.width,
            heads=shape.heads,
            vocabulary=shape.vocab,
            positions=shape.positions,
        )

    def _hold(self, tensor: Tensor) -> int:
        """The address of a tensor, in float32 unless it is packed, which lives as long as this."""
        kept = tensor.detach().contiguous()
        kept = kept.float() if kept.is_floating_point() else kept
        self._held.append(kept)
        return kept.data_ptr()

    def _norm(self, norm: nn.LayerNorm) -> _Norm:
        return _Norm(gain=self._hold(norm.weight.clone()), shift=self._hold(norm.bias.clone()), eps=norm.eps)

    def _linear(self, linear: nn.Module, *, in_bytes: bool) -> _Linear:
        assert isinstance(linear, nn.Linear)
        weight = linear.weight.detach()
        quantized = quantize(rotated(weight)) if in_bytes else in_shorts(weight)
        return _Linear(
            weights=self._hold(packed(quantized.levels)),
            scale=self._hold(quantized.scale),
            total=self._hold(quantized.restored().sum(dim=1)) if in_bytes else None,
            bias=self._hold(linear.bias.clone()),
            inputs=linear.in_features,
            outputs=linear.out_features,
            kind=BYTES if in_bytes else SHORTS,
        )

    def forward(self, windows: Windows) -> Tensor:
        """(N, D) float32.

        Raises IndexError for pieces or positions that have no vector, ValueError for windows beyond the slots or places
        beyond the rows, and MemoryError.
        """
        _check(windows)
        for numbers, count in ((windows.ids, self.vocab), (windows.positions, self.positions)):
            if len(numbers) and not 0 <= numbers.min() <= numbers.max() < count:
                raise IndexError(f"numbers from {numbers.min()} to {numbers.max()} for a table of {count} vectors")
        vectors = torch.empty((windows.rows, self.width), dtype=torch.float32, device="cpu")
        given = _Windows(
            **{name: getattr(windows, name).ctypes.data for name in ARRAYS},
            windows=len(windows.starts),
            slots=len(windows.ids),
            rows=windows.rows,
            out=vectors.data_ptr(),
        )
        encode = library("encoder").spacy_electra_encode
        answer = encode(byref(self._encoder), byref(given), c_int64(torch.get_num_threads()))
        check_answer(answer, work="the transformer's windows")
        return vectors


def _check(windows: Windows) -> None:
    """Raise ValueError where the arrays are of another form, or name what is not there."""
    arrays = {name: getattr(windows, name) for name in ARRAYS}
    for name, array in arrays.items():
        if array.dtype != np.int64 or array.ndim != 1 or not array.flags.c_contiguous:
            raise ValueError(f"{name} must be a contiguous axis of int64, but is {array.dtype} {array.shape}.")
    slots, count = len(windows.ids), len(windows.starts)
    if {len(windows.positions), len(windows.places)} != {slots} or len(windows.lengths) != count or windows.rows < 0:
        sizes = ", ".join(f"{len(array)} {name}" for name, array in arrays.items())
        raise ValueError(f"windows for {windows.rows} rows do not fit each other: {sizes}.")
    if count and (windows.lengths.min() < 1 or windows.starts.min() < 0):
        raise ValueError("a window must begin at slot 0 or later and be 1 slot or longer.")
    if count and (slots - windows.lengths - windows.starts).min() < 0:
        raise ValueError(f"a window ends behind the last of {slots} slots.")
    if slots and windows.places.max() >= windows.rows:
        raise ValueError(f"a vector is to go to row {windows.places.max()} of {windows.rows}.")


def predicts_natively(device: torch.device, shape: EncoderShape, *, in_bytes: bool) -> bool:
    """True where a `NativeEncoder` of this shape can run."""
    has_room = is_cut(width=shape.width, feed_forward=shape.feed_forward, heads=shape.heads)
    return has_room and shape.embedding % LANES == 0 and predicts_in_kernels(device, in_bytes=in_bytes)


def in_shorts(weight: Tensor) -> Quantized:
    """A weight (outputs, inputs) in levels of 16 bits.

    The sum over a part, with a row half as long, never overflows 32 bits by Cauchy and Schwarz, so it is exact.
    """
    weight = weight.float()
    squares = torch.stack([part.square().sum(dim=1) for part in weight.split(PART, dim=1)])
    by_length = squares.amax(dim=0).sqrt() / LONGEST
    scale = torch.maximum(by_length, weight.abs().amax(dim=1) / HIGHEST).clamp_min(TINY)
    return Quantized(levels=(weight / scale[:, None]).round().to(torch.int16), scale=scale)


def rotated(weight: Tensor) -> Tensor:
    """A weight (outputs, inputs) turned against the kernels' rows, so that the products stay what they were.

    A block of a row is multiplied by a Hadamard matrix of the order r, whose columns have the length sqrt(r), and the
    weight by its transpose over r. It leaves no channel that stands out, so levels are finer. Source: Ashkboos et al.
    2024, QuaRot, section 4; there over whole rows, here over every 16th channel of a block, which needs no shuffles.
    """
    outputs, inputs = weight.shape
    registers = inputs // LANES
    size = min(registers & -registers, ROTATED)
    blocks = weight.reshape(outputs, -1, size, LANES)
    return torch.einsum("obrl,rs->obsl", blocks, hadamard(size).to(weight)).reshape(outputs, inputs) / size


def hadamard(order: int) -> Tensor:
    """Sylvester's matrix (order, order) of -1 and 1, symmetric; the order is a power of two."""
    places = torch.arange(order, device="cpu")
    bits = places[:, None] & places
    return 1.0 - 2.0 * sum((bits >> n & 1 for n in range(order.bit_length())), torch.zeros_like(bits)).remainder(2)


def packed(weight: Tensor) -> Tensor:
    """Levels (outputs, inputs) in bytes or shorts -> (outputs / 64, words, 64) int32, as the kernels read them."""
    words = weight.contiguous().view(torch.int32)
    return words.view(-1, PANEL, words.shape[1]).transpose(1, 2).contiguous()
