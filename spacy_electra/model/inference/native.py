"""The backend in C: all blocks of an encoder in one call, in integers, on CPUs with AVX512-VNNI.

torch runs about ten operations a block. Each reads and writes all tokens of a batch, and has the overhead of Python and
of torch's dispatch. The kernels (`kernels/src/encoder.c`) take a few sequences through all blocks while they are in a
core's cache. They multiply int16, or int8 if asked to.

Legend: S tokens of all sequences, N rows of the output, D width.
"""

from collections.abc import Collection
from ctypes import byref, c_int64

import torch
from torch import Tensor, nn

from spacy_electra.model.files.int8 import ATTENTION, FEED_FORWARD, TINY, Quantized, part_of, quantize_weight
from spacy_electra.model.files.parameter_shapes import check_shapes
from spacy_electra.model.inference import library as abi
from spacy_electra.model.inference.library import check_status, library
from spacy_electra.model.inference.packed import PackedBatch
from spacy_electra.model.network.encoder import Block, Encoder, EncoderShape

# As in common.h, abi.h and operands.h of the kernels:
PANEL = 64  # columns that are summed at once
LANES = 16  # numbers of a register
ROTATED = 16  # registers that are rotated together, at most
GEMM_INT8, GEMM_INT16 = 1, 2  # precision of a matrix multiplication
INT16_PART = 256  # inputs that are summed in 32 bits
MAX_INT16_NORM = 65_400  # of a part's quantized values; twice what rows may have
MAX_INT16 = 32_767


def supports(shape: EncoderShape) -> bool:
    """True for encoders whose sizes are multiples of the kernels' registers."""
    by_panel = (shape.width, shape.feed_forward)
    by_lane = (shape.width // shape.heads, shape.embedding)
    return not any(number % PANEL for number in by_panel) and not any(number % LANES for number in by_lane)


class NativeEncoder:
    """An encoder that predicts with the kernels, on its embeddings and packed copies of its linear layers."""

    def __init__(self, encoder: Encoder, *, int8: bool, excluded: Collection[str] = ()):
        """int8: multiply int8; the first query, key and value projection and that of the embeddings stay in int16.
        excluded: parts that stay in int16, of `int8.parts_of`.
        Raises ValueError for an encoder whose weights do not have the sizes of its shape.
        """
        check_shapes(encoder.shape, encoder.state_dict())
        self._held: list[Tensor] = []  # what the structures point to
        shape, body, embeddings = encoder.shape, encoder.body, encoder.embeddings
        self.width, self.vocab, self.positions = shape.width, shape.vocab, shape.positions
        layers = (abi.CLayer * shape.layers)()
        for number, block in enumerate(body.blocks):
            assert isinstance(block, Block)
            attention, feed_forward = (
                int8 and part_of(number, name) not in excluded for name in (ATTENTION, FEED_FORWARD)
            )
            layers[number] = abi.CLayer(
                qkv=self._linear(block.attention.qkv, int8=attention and number > 0),
                output=self._linear(block.attention.output, int8=attention),
                up=self._linear(block.feed_forward.up, int8=feed_forward),
                down=self._linear(block.feed_forward.down, int8=feed_forward),
                norm1=self._norm(block.norm1),
                norm2=self._norm(block.norm2),
            )
        projects = not isinstance(body.project, nn.Identity)
        self._encoder = abi.CEncoder(
            word_embeddings=self._hold(embeddings.word.weight),
            position_embeddings=self._hold(embeddings.position.weight + embeddings.token_type.weight[0]),
            embedding_norm=self._norm(embeddings.norm),
            embedding_size=shape.embedding,
            projection=self._linear(body.project, int8=False) if projects else abi.CLinear(),
            layers=layers,
            num_layers=shape.layers,
            hidden_size=shape.width,
            num_heads=shape.heads,
            vocab_size=shape.vocab,
            max_positions=shape.positions,
        )

    def _hold(self, tensor: Tensor) -> int:
        """The address of a tensor, in float32 unless it is packed, which lives as long as this."""
        kept = tensor.detach().contiguous()
        kept = kept.float() if kept.is_floating_point() else kept
        self._held.append(kept)
        return kept.data_ptr()

    def _norm(self, norm: nn.LayerNorm) -> abi.CLayerNorm:
        return abi.CLayerNorm(gamma=self._hold(norm.weight.clone()), beta=self._hold(norm.bias.clone()), eps=norm.eps)

    def _linear(self, linear: nn.Module, *, int8: bool) -> abi.CLinear:
        assert isinstance(linear, nn.Linear)
        weight = linear.weight.detach()
        quantized = quantize_weight(rotated(weight)) if int8 else quantize_int16(weight)
        return abi.CLinear(
            weights=self._hold(packed(quantized.values)),
            scales=self._hold(quantized.scale),
            weight_sums=self._hold(quantized.restored().sum(dim=1)) if int8 else None,
            bias=self._hold(linear.bias.clone()),
            in_features=linear.in_features,
            out_features=linear.out_features,
            precision=GEMM_INT8 if int8 else GEMM_INT16,
        )

    def __call__(self, batch: PackedBatch) -> Tensor:
        """(N, D) float32. Raises IndexError for ids or positions outside the tables, and MemoryError."""
        for numbers, count in ((batch.ids, self.vocab), (batch.positions, self.positions)):
            if len(numbers) and not 0 <= numbers.min() <= numbers.max() < count:
                raise IndexError(f"numbers from {numbers.min()} to {numbers.max()} for a table of {count} vectors")
        rows = len(batch.output_index)
        vectors = torch.empty((rows, self.width), dtype=torch.float32, device="cpu")
        arrays = {
            "input_ids": batch.ids,
            "position_ids": batch.positions,
            "output_rows": batch.output_rows(),
            "cu_seqlens": batch.cu_seqlens,
        }
        given = abi.CBatch(
            **{name: array.ctypes.data for name, array in arrays.items()},
            num_sequences=len(batch.cu_seqlens) - 1,
            num_tokens=batch.tokens,
            num_outputs=rows,
            out=vectors.data_ptr(),
        )
        threads = c_int64(torch.get_num_threads())
        status = library().spacy_electra_encode(byref(self._encoder), byref(given), threads)
        check_status(status, work="the transformer's windows")
        return vectors

    def computed_tokens(self, batch: PackedBatch) -> int:
        return batch.tokens


def quantize_int16(weight: Tensor) -> Quantized:
    """Quantize a weight (outputs, inputs) to int16.

    By the Cauchy-Schwarz inequality the sum over a part, with a row of half the norm, never overflows 32 bits, so it is
    exact.
    """
    weight = weight.float()
    squares = torch.stack([part.square().sum(dim=1) for part in weight.split(INT16_PART, dim=1)])
    by_norm = squares.amax(dim=0).sqrt() / MAX_INT16_NORM
    scale = torch.maximum(by_norm, weight.abs().amax(dim=1) / MAX_INT16).clamp_min(TINY)
    return Quantized(values=(weight / scale[:, None]).round().to(torch.int16), scale=scale)


def rotated(weight: Tensor) -> Tensor:
    """A weight (outputs, inputs) rotated to match the kernels' rotated rows, so that the products are unchanged.

    A block of a row is multiplied by a Hadamard matrix of order r, whose columns have the norm sqrt(r), and the weight
    by its transpose over r. No channel dominates after that, so quantization is finer. Source: Ashkboos et al. 2024,
    QuaRot, section 4; there over whole rows, here over every 16th channel of a block, which needs no shuffles.
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
    """int8 or int16 (outputs, inputs) -> (outputs / 64, words, 64) int32, the layout that the kernels read."""
    words = weight.contiguous().view(torch.int32)
    return words.view(-1, PANEL, words.shape[1]).transpose(1, 2).contiguous()
