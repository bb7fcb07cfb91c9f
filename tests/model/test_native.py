"""The kernels of predictions against the torch encoder, window by window."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from spacy_electra.model.encoder import Encoder, EncoderShape
from spacy_electra.model.int8 import quantize
from spacy_electra.model.native import NativeEncoder, Windows, hadamard, in_shorts, packed, predicts_natively, rotated

CPU = torch.device("cpu")
SHAPE = EncoderShape(layers=2, width=128, feed_forward=192, heads=4, embedding=32, vocab=50, positions=140)
pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.skipif(
        not predicts_natively(CPU, SHAPE, in_bytes=True), reason="no AVX512-VNNI or no compiled kernels"
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


def windows_of(lengths: list[int], *, gap: int = 0) -> Windows:
    """gap: slots before each window, which belong to none."""
    length = np.array(lengths, dtype=np.int64)
    ends = np.cumsum(length + gap)
    slots = int(ends[-1]) if lengths else 0
    starts = ends - length
    positions, places = np.zeros(slots, dtype=np.int64), np.full(slots, -1)
    for start, count, place in zip(starts, length, np.cumsum(length) - length, strict=True):
        positions[start : start + count] = np.arange(count)
        places[start : start + count] = place + np.arange(count)
    ids = np.random.default_rng(3).integers(0, 50, slots)
    return Windows(ids=ids, positions=positions, places=places, starts=starts, lengths=length, rows=int(length.sum()))


def one_by_one(encoder: Encoder, windows: Windows) -> torch.Tensor:
    ends = windows.starts + windows.lengths
    rows = [torch.from_numpy(windows.ids[a:b])[None] for a, b in zip(windows.starts, ends, strict=True)]
    return torch.cat([encoder(row)[0].float() for row in rows])


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
def test_products_of_shorts_err_by_a_twentieth_of_what_torch_does_in_bfloat16(changed):
    encoder, windows = made(replace(SHAPE, **changed)), windows_of(LENGTHS)
    exact = one_by_one(encoder, windows)
    native = NativeEncoder(encoder, in_bytes=False)(windows)
    assert native.dtype == torch.float32
    assert 0 < error(native, exact) < error(one_by_one(made(encoder.shape).bfloat16(), windows), exact) / 20
    assert F.cosine_similarity(native, exact).min() > 0.999999


def test_shorts_are_as_close_in_windows_of_five_hundred_pieces():
    encoder, windows = made(replace(SHAPE, positions=513)), windows_of([512, 513])
    assert error(NativeEncoder(encoder, in_bytes=False)(windows), one_by_one(encoder, windows)) < 5e-4


def test_bytes_are_as_close_in_windows_of_five_hundred_pieces():
    encoder, windows = made(replace(SHAPE, positions=513)), windows_of([512, 513])
    assert error(NativeEncoder(encoder, in_bytes=True)(windows), one_by_one(encoder, windows)) < 0.02


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_row_in_the_direction_of_its_weights_does_not_overflow(sign):
    """The largest sum that there can be: 32,700 times 65,400, a little less than 2^31."""
    encoder = made(replace(SHAPE, embedding=4096))
    encoder.embeddings.norm.weight.zero_()
    encoder.embeddings.norm.bias.fill_(1.0)
    encoder.body.project.weight.fill_(sign / 4096)
    windows = windows_of([9])
    answer = NativeEncoder(encoder, in_bytes=False)(windows)
    assert error(answer, one_by_one(encoder, windows)) < 5e-4


@pytest.mark.parametrize("length", [1, 15, 140, 513])
def test_chances_of_values_in_one_direction_do_not_overflow(length):
    """All pieces are the same, and one channel of each head is all that its values have."""
    encoder = made(replace(SHAPE, positions=513))
    encoder.embeddings.position.weight.zero_()
    for block in encoder.body.blocks:
        values = slice(2 * SHAPE.width, None)
        block.attention.qkv.weight[values] = 0.0
        block.attention.qkv.bias[values] = torch.tensor([5.0] + [0.0] * 31).repeat(4)
    windows = windows_of([length])
    windows = replace(windows, ids=np.zeros_like(windows.ids))
    answer = NativeEncoder(encoder, in_bytes=False)(windows)
    assert error(answer, one_by_one(encoder, windows)) < 5e-4


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
    windows = windows_of([20])
    ids = np.where(np.arange(20) == 3, 0, np.maximum(windows.ids, 1))
    others = [*range(3), *range(4, 20)]
    values = qkv(table.norm(table.word.weight[torch.from_numpy(ids)]))[:, 2 * width :].norm(dim=1)
    assert values[3] > 1000 * values[others].mean()
    windows = replace(windows, ids=ids)
    exact = one_by_one(encoder, windows)
    answer = NativeEncoder(encoder, in_bytes=False)(windows)
    assert error(answer[others], exact[others]) < 5e-4


def test_levels_of_a_weight_fill_sixteen_bits_or_thirty_one_with_a_row():
    weight = torch.zeros(3, 64)
    weight[0, :2] = torch.tensor([1.0, -0.5])
    weight[1] = 1.0
    levels = in_shorts(weight).levels
    assert levels[0, :3].tolist() == [32767, -16384, 0]
    assert levels[1].tolist() == [65400 // 8] * 64
    assert not levels[2].any()
    torch.testing.assert_close(in_shorts(weight).restored(), weight, atol=1e-4, rtol=0)


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
def test_products_of_bytes_err_by_two_hundredths(changed):
    encoder, windows = made(replace(SHAPE, **changed)), windows_of(LENGTHS)
    native = NativeEncoder(encoder, in_bytes=True)(windows)
    exact = one_by_one(encoder, windows)
    assert 0.002 < error(native, exact) < 0.02


class InLevels(nn.Module):
    """A linear layer whose weight and input rows are rounded to levels of bytes as they are, without a turn."""

    def __init__(self, linear: nn.Linear):
        super().__init__()
        self.weight, self.bias = quantize(linear.weight).restored(), linear.bias

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


def test_a_channel_that_stands_out_costs_less_than_in_rows_that_are_not_turned():
    """One input of two products is 30 times as large as the others, which leaves these fewer levels."""

    def uneven() -> Encoder:
        encoder = made()
        for block in encoder.body.blocks:
            block.norm1.weight[5] = block.norm2.weight[5] = 30.0
            block.feed_forward.up.weight[:, 5] /= 30
            block.attention.qkv.weight[:, 5] /= 30
        return encoder

    windows = windows_of(LENGTHS)
    others = [channel for channel in range(SHAPE.width) if channel != 5]
    exact = one_by_one(uneven(), windows)[:, others]
    turned = NativeEncoder(uneven(), in_bytes=True)(windows)[:, others]
    straight = one_by_one(in_levels(uneven()), windows)[:, others]
    assert error(turned, exact) < 0.8 * error(straight, exact)


@pytest.mark.parametrize("in_bytes", [False, True])
@pytest.mark.parametrize("threads", [2, 3, 5])
@pytest.mark.parametrize(
    "lengths",
    [[140], [70, 70, 70], LENGTHS * 3, [140, 140, 140], [140] * 9],
    ids=["shared rows", "shared windows", "chunks", "long windows", "fewer chunks than threads"],
)
def test_threads_change_no_bit(lengths, threads, in_bytes):
    native, windows = NativeEncoder(made(), in_bytes=in_bytes), windows_of(lengths)
    torch.set_num_threads(1)
    alone = native(windows)
    torch.set_num_threads(threads)
    for _ in range(5):
        assert torch.equal(native(windows), alone)


@pytest.mark.parametrize("in_bytes", [False, True])
def test_a_window_does_not_know_its_neighbours(in_bytes):
    native = NativeEncoder(made(), in_bytes=in_bytes)
    windows = windows_of(LENGTHS, gap=3)
    together = native(windows)
    for start, length in zip(windows.starts, windows.lengths, strict=True):
        part = slice(start, start + length)
        own = replace(windows_of([int(length)]), ids=windows.ids[part].copy(), positions=windows.positions[part].copy())
        assert torch.equal(native(own), together[windows.places[start] :][:length])


def test_vectors_go_where_they_are_wanted():
    native, windows = NativeEncoder(made(), in_bytes=False), windows_of([4, 3])
    answer = native(windows)
    backwards = replace(windows, places=np.array([-1, 4, 3, -1, 2, 1, 0]), rows=5)
    assert torch.equal(native(backwards), answer[[6, 5, 4, 2, 1]])


@pytest.mark.parametrize("in_bytes", [False, True])
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
def test_what_is_no_number_is_none_in_levels_either(changed, layer, output, in_bytes):
    encoder = made(replace(SHAPE, **changed))
    encoder.body.blocks[0].get_submodule(layer).bias[output] = torch.nan
    answer = NativeEncoder(encoder, in_bytes=in_bytes)(windows_of([9]))
    assert answer.isnan().all()


@pytest.mark.parametrize("output", [5, 128 + 31], ids=["queries", "keys"])
def test_what_is_infinite_in_bytes_gives_no_number(output):
    encoder = made()
    encoder.body.blocks[0].attention.qkv.bias[output] = torch.inf
    assert NativeEncoder(encoder, in_bytes=True)(windows_of([9])).isnan().all()


def test_scores_of_bytes_hold_what_keys_have_in_common():
    """A query's zero is level 128, so that sums hold 128 times the sum of a key's levels until that is taken off."""
    encoder, windows = made(replace(SHAPE, layers=1)), windows_of(LENGTHS)
    qkv = encoder.body.blocks[0].attention.qkv
    qkv.bias[128:256] = 20.0
    answer = NativeEncoder(encoder, in_bytes=True)(windows)
    assert error(answer, one_by_one(encoder, windows)) < 0.02


@pytest.mark.parametrize(("name", "wrong"), [("ids", -1), ("ids", 50), ("positions", 140), ("positions", -1)])
def test_numbers_without_a_vector_are_refused(name, wrong):
    windows = windows_of([4])
    getattr(windows, name)[2] = wrong
    with pytest.raises(IndexError, match="for a table of"):
        NativeEncoder(made(), in_bytes=False)(windows)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"starts": np.array([1])}, "a window ends behind the last of 4 slots"),
        ({"starts": np.array([-1])}, "a window must begin at slot 0"),
        ({"lengths": np.array([0])}, "1 slot or longer"),
        ({"lengths": np.array([5])}, "a window ends behind"),
        ({"lengths": np.array([2**63 - 1]), "starts": np.array([2**63 - 1])}, "the kernels refuse"),
        ({"lengths": np.array([4, 4])}, "do not fit each other"),
        ({"places": np.array([0, 1, 2, 4])}, "to row 4 of 4"),
        ({"rows": -1}, "do not fit each other"),
        ({"positions": np.arange(3)}, "do not fit each other"),
        ({"ids": np.zeros(4, dtype=np.int32)}, "ids must be a contiguous axis of int64"),
        ({"ids": np.zeros(8, dtype=np.int64)[::2]}, "ids must be a contiguous axis of int64"),
    ],
    ids=str,
)
def test_windows_that_lie_elsewhere_are_refused(changed, told):
    with pytest.raises(ValueError, match=told):
        NativeEncoder(made(), in_bytes=False)(replace(windows_of([4]), **changed))


def test_an_encoder_whose_weights_are_not_of_its_shape_is_refused():
    encoder = made()
    encoder.body.blocks[1].feed_forward.up = torch.nn.Linear(SHAPE.width, 64)
    with pytest.raises(ValueError, match="their shape asks for"):
        NativeEncoder(encoder, in_bytes=False)


@pytest.mark.parametrize(("field", "value"), [("heads", -1), ("width", 2**40), ("count", 0), ("embedding", 17)])
def test_the_kernels_refuse_a_shape_by_themselves(field, value):
    native = NativeEncoder(made(), in_bytes=False)
    setattr(native._encoder, field, value)
    with pytest.raises(ValueError, match="the kernels refuse"):
        native(windows_of([4]))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_another_default_type_changes_nothing(dtype):
    native, windows = NativeEncoder(made(), in_bytes=False), windows_of([12])
    before = native(windows)
    torch.set_default_dtype(dtype)
    try:
        assert torch.equal(native(windows), before)
    finally:
        torch.set_default_dtype(torch.float32)


def test_weights_in_another_type_are_read_as_numbers():
    windows = windows_of([12])
    lower = NativeEncoder(made().bfloat16(), in_bytes=False)(windows)
    torch.testing.assert_close(lower, NativeEncoder(made(), in_bytes=False)(windows), atol=0.1, rtol=0.05)


def test_no_windows_have_no_vectors():
    assert NativeEncoder(made(), in_bytes=True)(windows_of([])).shape == (0, SHAPE.width)


@pytest.mark.parametrize("in_bytes", [False, True])
def test_rows_without_any_difference_between_channels(in_bytes):
    """Norms without gain give rows of one number, whose bytes have no span."""
    encoder = made()
    for block in encoder.body.blocks:
        block.norm1.weight.zero_()
        block.norm1.bias.fill_(0.5)
    windows = windows_of([9])
    answer = NativeEncoder(encoder, in_bytes=in_bytes)(windows)
    torch.testing.assert_close(answer, one_by_one(encoder, windows), atol=0.05, rtol=0.02)


@pytest.mark.parametrize("scale", [100.0, 1e5])
@pytest.mark.parametrize("in_bytes", [False, True])
def test_attention_to_one_piece_alone_and_large_numbers_stay_finite(in_bytes, scale):
    encoder = made(scale=scale)
    answer = NativeEncoder(encoder, in_bytes=in_bytes)(windows_of(LENGTHS))
    assert torch.isfinite(answer).all()


def test_the_weights_of_its_encoder_may_go_on():
    """All but the table of words, which is not copied, is as it was when the kernels were given it."""
    encoder, windows = made(), windows_of([12])
    native = NativeEncoder(encoder, in_bytes=False)
    before = native(windows)
    for weight in encoder.body.parameters():
        weight.zero_()
    assert torch.equal(native(windows), before)


@pytest.mark.parametrize("inputs", [16 * 4, 16 * 8, 16 * 12, 16 * 16, 16 * 20, 16 * 48])
def test_turned_weights_meet_turned_rows(inputs):
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


def test_a_shape_that_registers_cannot_cut_runs_in_torch():
    for changed in ({"width": 96}, {"feed_forward": 100}, {"embedding": 20}, {"heads": 16}):
        assert not predicts_natively(CPU, replace(SHAPE, **changed), in_bytes=True)
