"""The C kernels against the torch encoder, sequence by sequence."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from spacy_electra.model.files.int8 import quantize_weight
from spacy_electra.model.inference.backend import Backend, choose_backend
from spacy_electra.model.inference.native import NativeEncoder, hadamard, packed, quantize_int16, rotated, supports
from spacy_electra.model.inference.packed import PackedBatch
from spacy_electra.model.network.encoder import Encoder, EncoderShape

CPU = torch.device("cpu")
SHAPE = EncoderShape(layers=2, width=128, feed_forward=192, heads=4, embedding=32, vocab=50, positions=140)
pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.skipif(
        choose_backend("int8", CPU, SHAPE).prediction is not Backend.NATIVE_INT8,
        reason="no AVX512-VNNI, or spacy-electra-kernels is not installed",
    ),
]
LENGTHS = [1, 2, 140, 5, 6, 7, 15, 16, 17, 31, 63, 64, 65, 96, 127, 128]


def made(shape: EncoderShape = SHAPE, scale: float = 1.0) -> Encoder:
    torch.manual_seed(0)
    encoder = Encoder(shape).requires_grad_(False)
    for weight in encoder.parameters():
        if weight.dim() == 1:
            weight.add_(0.1 * torch.randn_like(weight))
        else:
            weight.normal_(std=scale / weight.shape[1] ** 0.5)
    return encoder


def batch_of(lengths: list[int]) -> PackedBatch:
    """Random pieces in sequences of these lengths, all of whose vectors are wanted."""
    cu_seqlens = np.cumsum([0, *lengths])
    tokens = int(cu_seqlens[-1])
    return PackedBatch(
        ids=np.random.default_rng(3).integers(0, 50, tokens),
        positions=np.concatenate([np.arange(0), *map(np.arange, lengths)]),
        cu_seqlens=cu_seqlens,
        output_index=np.arange(tokens),
    )


def one_by_one(encoder: Encoder, batch: PackedBatch) -> torch.Tensor:
    rows = np.split(batch.ids, batch.cu_seqlens[1:-1])
    return torch.cat([encoder(torch.from_numpy(row)[None])[0].float() for row in rows])


def error(answer: torch.Tensor, exact: torch.Tensor) -> float:
    return float((answer - exact).norm() / exact.norm())


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"embedding": 128},  # nothing to project
        {"width": 64, "heads": 4, "feed_forward": 64},  # heads of 16 channels, half a register of pairs
        {"width": 192, "heads": 4, "feed_forward": 320},  # heads of 48 channels
        {"width": 256, "heads": 2},  # heads of 128 channels, two panels
        {"width": 320, "heads": 5, "feed_forward": 1280, "layers": 1},
        {"feed_forward": 4096},
    ],
    ids=str,
)
def test_int16_errs_by_a_twentieth_of_what_torch_does_in_bfloat16(changed):
    encoder, batch = made(replace(SHAPE, **changed)), batch_of(LENGTHS)
    exact = one_by_one(encoder, batch)
    native = NativeEncoder(encoder, int8=False)(batch)
    assert native.dtype == torch.float32
    assert 0 < error(native, exact) < error(one_by_one(made(encoder.shape).bfloat16(), batch), exact) / 20
    assert F.cosine_similarity(native, exact).min() > 0.999999


def test_int16_is_as_close_in_sequences_of_five_hundred_pieces():
    encoder, batch = made(replace(SHAPE, positions=513)), batch_of([512, 513])
    assert error(NativeEncoder(encoder, int8=False)(batch), one_by_one(encoder, batch)) < 5e-4


def test_int8_is_as_close_in_sequences_of_five_hundred_pieces():
    encoder, batch = made(replace(SHAPE, positions=513)), batch_of([512, 513])
    assert error(NativeEncoder(encoder, int8=True)(batch), one_by_one(encoder, batch)) < 0.02


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_row_in_the_direction_of_its_weights_does_not_overflow(sign):
    """The largest sum that there can be: 32,700 times 65,400, a little less than 2^31."""
    encoder = made(replace(SHAPE, embedding=4096))
    encoder.embeddings.norm.weight.zero_()
    encoder.embeddings.norm.bias.fill_(1.0)
    encoder.body.project.weight.fill_(sign / 4096)
    batch = batch_of([9])
    answer = NativeEncoder(encoder, int8=False)(batch)
    assert error(answer, one_by_one(encoder, batch)) < 5e-4


@pytest.mark.parametrize("length", [1, 15, 140, 513])
def test_probabilities_of_values_in_one_direction_do_not_overflow(length):
    """All pieces are the same, and one channel of each head is all that its values have."""
    encoder = made(replace(SHAPE, positions=513))
    encoder.embeddings.position.weight.zero_()
    for block in encoder.body.blocks:
        values = slice(2 * SHAPE.width, None)
        block.attention.qkv.weight[values] = 0.0
        block.attention.qkv.bias[values] = torch.tensor([5.0] + [0.0] * 31).repeat(4)
    batch = batch_of([length])
    batch = replace(batch, ids=np.zeros_like(batch.ids))
    answer = NativeEncoder(encoder, int8=False)(batch)
    assert error(answer, one_by_one(encoder, batch)) < 5e-4


def test_one_value_far_above_the_others_leaves_them_their_digits():
    """A piece to which nobody attends, with a channel of its own, has a value 1,000 times as long as the others'."""
    width, channel = SHAPE.width, 5
    encoder = made(replace(SHAPE, layers=1, embedding=width))
    table = encoder.embeddings
    table.position.weight.zero_()
    table.token_type.weight.zero_()
    table.norm.weight.fill_(1.0)
    table.norm.weight[channel] = 100.0
    table.norm.bias.zero_()
    table.word.weight[:, channel] = 0.0
    table.word.weight[1:] -= table.word.weight[1:].mean(dim=1, keepdim=True)
    table.word.weight[:, channel] = 0.0
    table.word.weight[0] = torch.eye(width)[channel]
    qkv = encoder.body.blocks[0].attention.qkv
    qkv.bias[:width] = 1.0
    qkv.weight[width : 2 * width, channel] = -0.05
    qkv.weight[2 * width :, channel] = 1.0
    batch = batch_of([20])
    ids = np.where(np.arange(20) == 3, 0, np.maximum(batch.ids, 1))
    others = [*range(3), *range(4, 20)]
    values = qkv(table.norm(table.word.weight[torch.from_numpy(ids)]))[:, 2 * width :].norm(dim=1)
    assert values[3] > 1000 * values[others].mean()
    batch = replace(batch, ids=ids)
    exact = one_by_one(encoder, batch)
    answer = NativeEncoder(encoder, int8=False)(batch)
    assert error(answer[others], exact[others]) < 5e-4


def test_a_weight_in_int16_fills_sixteen_bits_or_thirty_one_with_a_row():
    weight = torch.zeros(3, 64)
    weight[0, :2] = torch.tensor([1.0, -0.5])
    weight[1] = 1.0
    values = quantize_int16(weight).values
    assert values[0, :3].tolist() == [32767, -16384, 0]
    assert values[1].tolist() == [65400 // 8] * 64
    assert not values[2].any()
    torch.testing.assert_close(quantize_int16(weight).restored(), weight, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"width": 192},
        {"width": 256},
        {"width": 320, "heads": 5},
        {"width": 64, "heads": 4, "feed_forward": 64},  # heads of 16 channels, four words
        {"width": 256, "heads": 2},  # heads of 128 channels
    ],
    ids=str,
)
def test_int8_errs_by_two_hundredths(changed):
    encoder, batch = made(replace(SHAPE, **changed)), batch_of(LENGTHS)
    native = NativeEncoder(encoder, int8=True)(batch)
    exact = one_by_one(encoder, batch)
    assert 0.002 < error(native, exact) < 0.02


class InLevels(nn.Module):
    """A linear layer whose weight and input rows are rounded to levels of bytes as they are, without a turn."""

    def __init__(self, linear: nn.Linear):
        super().__init__()
        self.weight, self.bias = quantize_weight(linear.weight).restored(), linear.bias

    def forward(self, x):
        lowest = x.amin(-1, keepdim=True)
        scale = (x.amax(-1, keepdim=True) - lowest) / 255
        return F.linear(((x - lowest) / scale).round() * scale + lowest, self.weight, self.bias)


def in_levels(encoder: Encoder) -> Encoder:
    """All products rounded that the kernels have in bytes."""
    for number, block in enumerate(encoder.body.blocks):
        parts = [(block.attention, "output"), (block.feed_forward, "up"), (block.feed_forward, "down")]
        for parent, name in [*parts, *([(block.attention, "qkv")] if number else [])]:
            setattr(parent, name, InLevels(getattr(parent, name)))
    return encoder


def test_a_channel_that_stands_out_costs_less_than_in_rows_that_are_not_rotated():
    """One input of two products is 30 times as large as the others, which leaves these fewer levels."""

    def uneven() -> Encoder:
        encoder = made()
        for block in encoder.body.blocks:
            block.norm1.weight[5] = block.norm2.weight[5] = 30.0
            block.feed_forward.up.weight[:, 5] /= 30
            block.attention.qkv.weight[:, 5] /= 30
        return encoder

    batch = batch_of(LENGTHS)
    others = [channel for channel in range(SHAPE.width) if channel != 5]
    exact = one_by_one(uneven(), batch)[:, others]
    rotated_rows = NativeEncoder(uneven(), int8=True)(batch)[:, others]
    straight = one_by_one(in_levels(uneven()), batch)[:, others]
    assert error(rotated_rows, exact) < 0.8 * error(straight, exact)


@pytest.mark.parametrize("int8", [False, True])
@pytest.mark.parametrize("threads", [2, 3, 5])
@pytest.mark.parametrize(
    "lengths",
    [[140], [70, 70, 70], LENGTHS * 3, [140, 140, 140], [140] * 9],
    ids=["shared rows", "shared sequences", "chunks", "long sequences", "fewer chunks than threads"],
)
def test_threads_change_no_bit(lengths, threads, int8):
    native, batch = NativeEncoder(made(), int8=int8), batch_of(lengths)
    torch.set_num_threads(1)
    alone = native(batch)
    torch.set_num_threads(threads)
    for _ in range(5):
        assert torch.equal(native(batch), alone)


@pytest.mark.parametrize("int8", [False, True])
def test_a_sequence_does_not_know_its_neighbours(int8):
    native, batch = NativeEncoder(made(), int8=int8), batch_of(LENGTHS)
    together = native(batch)
    for start, end in zip(batch.cu_seqlens[:-1], batch.cu_seqlens[1:], strict=True):
        own = replace(batch_of([int(end - start)]), ids=batch.ids[start:end].copy())
        assert torch.equal(native(own), together[start:end])


def test_vectors_go_where_they_are_wanted():
    native, batch = NativeEncoder(made(), int8=False), batch_of([4, 3])
    wanted = np.array([6, 5, 4, 2, 1])
    assert torch.equal(native(replace(batch, output_index=wanted)), native(batch)[wanted])


@pytest.mark.parametrize("int8", [False, True])
@pytest.mark.parametrize(
    ("changed", "layer", "output"),
    [
        ({"width": 192, "feed_forward": 320}, "attention.qkv", -1),  # rows of several blocks that are turned
        ({"width": 512}, "attention.qkv", 1024),  # values of the first head; rows of two parts
        ({"feed_forward": 1024}, "feed_forward.up", 3),  # the first of four parts
        ({}, "attention.qkv", 5),  # queries
        ({}, "attention.qkv", 128 + 31),  # keys
    ],
    ids=str,
)
def test_what_is_no_number_is_none_in_levels_either(changed, layer, output, int8):
    encoder = made(replace(SHAPE, **changed))
    encoder.body.blocks[0].get_submodule(layer).bias[output] = torch.nan
    answer = NativeEncoder(encoder, int8=int8)(batch_of([9]))
    assert answer.isnan().all()


@pytest.mark.parametrize("output", [5, 128 + 31], ids=["queries", "keys"])
def test_what_is_infinite_in_int8_gives_no_number(output):
    encoder = made()
    encoder.body.blocks[0].attention.qkv.bias[output] = torch.inf
    assert NativeEncoder(encoder, int8=True)(batch_of([9])).isnan().all()


def test_scores_of_int8_hold_what_keys_have_in_common():
    """A query's zero is level 128, so that sums hold 128 times the sum of a key's levels until that is taken off."""
    encoder, batch = made(replace(SHAPE, layers=1)), batch_of(LENGTHS)
    qkv = encoder.body.blocks[0].attention.qkv
    qkv.bias[128:256] = 20.0
    answer = NativeEncoder(encoder, int8=True)(batch)
    assert error(answer, one_by_one(encoder, batch)) < 0.02


@pytest.mark.parametrize(("name", "wrong"), [("ids", -1), ("ids", 50), ("positions", 140), ("positions", -1)])
def test_numbers_without_a_vector_are_refused(name, wrong):
    batch = batch_of([4])
    getattr(batch, name)[2] = wrong
    with pytest.raises(IndexError, match="for a table of"):
        NativeEncoder(made(), int8=False)(batch)


def test_the_kernels_refuse_lengths_by_themselves():
    batch = batch_of([4])
    batch.cu_seqlens[1] = 2**40  # after it was checked
    with pytest.raises(ValueError, match="the kernels refuse"):
        NativeEncoder(made(), int8=False)(batch)


def test_an_encoder_whose_weights_are_not_of_its_shape_is_refused():
    encoder = made()
    encoder.body.blocks[1].feed_forward.up = torch.nn.Linear(SHAPE.width, 64)
    with pytest.raises(ValueError, match="their shape asks for"):
        NativeEncoder(encoder, int8=False)


@pytest.mark.parametrize(
    ("field", "value"), [("num_heads", -1), ("hidden_size", 2**40), ("num_layers", 0), ("embedding_size", 17)]
)
def test_the_kernels_refuse_a_shape_by_themselves(field, value):
    native = NativeEncoder(made(), int8=False)
    setattr(native._encoder, field, value)
    with pytest.raises(ValueError, match="the kernels refuse"):
        native(batch_of([4]))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_another_default_type_changes_nothing(dtype):
    native, batch = NativeEncoder(made(), int8=False), batch_of([12])
    before = native(batch)
    torch.set_default_dtype(dtype)
    try:
        assert torch.equal(native(batch), before)
    finally:
        torch.set_default_dtype(torch.float32)


def test_weights_in_another_type_are_read_as_numbers():
    batch = batch_of([12])
    lower = NativeEncoder(made().bfloat16(), int8=False)(batch)
    torch.testing.assert_close(lower, NativeEncoder(made(), int8=False)(batch), atol=0.1, rtol=0.05)


def test_no_sequences_have_no_vectors():
    assert NativeEncoder(made(), int8=True)(batch_of([])).shape == (0, SHAPE.width)


@pytest.mark.parametrize("int8", [False, True])
def test_rows_without_any_difference_between_channels(int8):
    """Norms without gain give rows of one number, whose bytes have no span."""
    encoder = made()
    for block in encoder.body.blocks:
        block.norm1.weight.zero_()
        block.norm1.bias.fill_(0.5)
    batch = batch_of([9])
    answer = NativeEncoder(encoder, int8=int8)(batch)
    torch.testing.assert_close(answer, one_by_one(encoder, batch), atol=0.05, rtol=0.02)


@pytest.mark.parametrize("scale", [100.0, 1e5])
@pytest.mark.parametrize("int8", [False, True])
def test_attention_to_one_piece_alone_and_large_numbers_stay_finite(int8, scale):
    encoder = made(scale=scale)
    answer = NativeEncoder(encoder, int8=int8)(batch_of(LENGTHS))
    assert torch.isfinite(answer).all()


def test_the_weights_of_its_encoder_may_go_on():
    """All but the table of words, which is not copied, is as it was when the kernels were given it."""
    encoder, batch = made(), batch_of([12])
    native = NativeEncoder(encoder, int8=False)
    before = native(batch)
    for weight in encoder.body.parameters():
        weight.zero_()
    assert torch.equal(native(batch), before)


@pytest.mark.parametrize("inputs", [16 * 4, 16 * 8, 16 * 12, 16 * 16, 16 * 20, 16 * 48])
def test_rotated_weights_meet_rotated_rows(inputs):
    """A row's blocks of r registers are multiplied by Sylvester's matrix, register by register."""
    weight, x = (torch.randn(n, inputs, dtype=torch.double) for n in (5, 7))
    order = {4: 4, 8: 8, 12: 4, 16: 16, 20: 4, 48: 16}[inputs // 16]
    turn = torch.block_diag(*[torch.kron(hadamard(order).double(), torch.eye(16))] * (inputs // 16 // order))
    torch.testing.assert_close((x @ turn) @ rotated(weight).T, x @ weight.T)


def test_hadamard_of_order_four():
    assert hadamard(4).tolist() == [[1, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]]


def test_packed_words_hold_four_inputs_of_one_output():
    weight = torch.arange(64 * 8, dtype=torch.int32).remainder(100).to(torch.int8).view(64, 8)
    words = packed(weight)
    assert words.shape == (1, 2, 64)
    assert words[0, 1, 3:4].view(torch.int8).tolist() == weight[3, 4:].tolist()


def test_shapes_that_do_not_fill_registers_are_not_supported():
    assert supports(SHAPE)
    for changed in ({"width": 96}, {"feed_forward": 100}, {"embedding": 20}, {"heads": 16}):
        assert not supports(replace(SHAPE, **changed))
