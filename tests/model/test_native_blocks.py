"""Blocks that learn in kernels of our own, against the same blocks in torch."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from spacy_electra.model.attention import Mask, within_segments
from spacy_electra.model.dropout import TorchDropout
from spacy_electra.model.encoder import Block, Body
from spacy_electra.model.library import learns_in_kernels
from spacy_electra.model.native_blocks import Around, NativeBlock, window_lengths
from tests.model.native_cases import bf16, made, mask_of, passes

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.skipif(
        not learns_in_kernels(torch.device("cpu")), reason="no AVX512-BF16, AMX, or no compiled kernels"
    ),
]


def is_native(body: Body, x: Tensor, **settings: object) -> bool:
    function = body(x, settings.pop("mask", None), **settings).grad_fn
    while function.name() == "ViewBackward0":
        function = function.next_functions[0][0]
    return function.name() == "NativeBlockBackward"


@pytest.mark.parametrize(
    ("shape", "lengths"),
    [
        ({}, [5]),
        ({}, [1, 2, 40, 7, 33, 31, 32, 96]),
        ({"heads": 4}, [17, 100]),  # heads of 16 channels
        ({"width": 192, "heads": 4, "inner": 320}, [17, 31, 96, 97]),  # of 48
        ({"width": 128, "heads": 1, "inner": 64}, [65, 130]),  # of 128, two panels
        ({"width": 128, "heads": 2, "inner": 512}, [512]),
        ({"width": 256, "heads": 4, "inner": 1024, "layers": 2}, [128, 60, 68]),
    ],
    ids=str,
)
def test_passes_are_as_close_to_float32_as_torch_in_bfloat16(shape, lengths, request):
    exact = passes(made(**shape), lengths)
    with bf16():
        native = passes(made(**shape), lengths)
        request.getfixturevalue("in_torch")
        plain = passes(made(**shape), lengths)
    for ours, theirs, wanted in zip(native, plain, exact, strict=True):
        off, usual = ((one - wanted).norm() / wanted.norm().clamp_min(1e-6) for one in (ours, theirs))
        assert off < max(1.25 * usual, 1e-5)
    assert (native[0] != plain[0]).any()  # so they are not the same


def test_the_bodies_of_a_network_run_in_kernels():
    body, x = made(), torch.randn(3, 20, 64)
    with bf16():
        assert is_native(body, x)
        assert is_native(body, x.view(1, 60, 64), mask=mask_of([12, 48]))
        assert is_native(body, x, drop=TorchDropout(0.1))
    assert not is_native(body, x)


def pruned_by_hook(block: Block) -> None:
    block.norm1.register_forward_hook(lambda module, inputs, answer: answer)


@pytest.mark.parametrize(
    "change",
    [
        lambda block: setattr(block.attention, "qkv", type("Adapter", (nn.Linear,), {})(64, 192)),
        lambda block: setattr(block.attention, "qkv", nn.Linear(64, 192, bias=False)),
        lambda block: setattr(block.feed_forward, "up", nn.Linear(64, 100)),
        lambda block: setattr(block.attention, "heads", 8),
        lambda block: setattr(block.norm1, "weight", nn.Parameter(torch.ones(128)[::2])),
        pruned_by_hook,
    ],
    ids=["another layer", "no bias", "an uneven width", "narrow heads", "a strided weight", "a hook"],
)
def test_blocks_that_the_kernels_do_not_know_run_in_torch(change):
    body = made()
    change(body.blocks[0])
    body.blocks[0].feed_forward.down = nn.Linear(body.blocks[0].feed_forward.up.out_features, 64)
    with bf16():
        assert not is_native(body, torch.randn(3, 20, 64))


@pytest.mark.parametrize(
    "view",
    [lambda x: x[..., :64], lambda x: x[:, ::2, 64:], lambda x: x[:1, :1, :64].expand(2, 20, 64)],
    ids=["half of the channels", "every other piece", "the same piece again and again"],
)
def test_views_are_read_as_what_they_show(view):
    x = view(torch.randn(2, 20, 128))
    with bf16():
        assert is_native(made(), x)
        assert torch.equal(made()(x, None), made()(x.clone(memory_format=torch.contiguous_format), None))


def test_two_backward_passes_give_the_same():
    body, x = made(), torch.randn(1, 40, 64, requires_grad=True)
    with bf16():
        loss = body(x, None).square().sum()
    one, other = (torch.autograd.grad(loss, [x, *body.parameters()], retain_graph=True) for _ in range(2))
    assert all(map(torch.equal, one, other))


def test_rows_that_nobody_measured_run_in_torch():
    mask = Mask(torch.ones(3, 1, 20, 20, dtype=torch.bool))
    with bf16():
        assert not is_native(made(), torch.randn(3, 20, 64), mask=mask)


@pytest.mark.parametrize("threads", [2, 3])
def test_threads_change_no_bit_but_in_sums_over_rows(threads):
    lengths = [70, 128, 1, 90, 200]
    with bf16():
        alone = passes(made(layers=2), lengths)
        torch.set_num_threads(threads)
        together = passes(made(layers=2), lengths)
    for one, other in zip(alone, together, strict=True):
        if one.dim() > 1:
            assert torch.equal(one, other)
        else:
            torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-5)


def test_the_same_rows_give_the_same_bits():
    with bf16():
        for one, other in zip(passes(made(), [9, 120]), passes(made(), [9, 120]), strict=True):
            assert torch.equal(one, other)


def test_gradients_stay_in_their_window():
    block = made().blocks[0]
    x = torch.randn(1, 30, 64, requires_grad=True)
    with bf16():
        block(x, mask_of([12, 18]), None)[0, :12].sum().backward()
    assert (x.grad[0, 12:] == 0).all()
    assert (x.grad[0, :12] != 0).any()


def test_stretches_of_rows_with_padding_are_windows():
    segments = torch.tensor([[1, 1, 2, 0], [1, 1, 1, 1], [1, 2, 2, 2]])
    mask = within_segments(segments)
    assert mask.lengths.tolist() == [2, 1, 1, 4, 1, 3]
    assert window_lengths(torch.empty(3, 4, 8), None).tolist() == [4, 4, 4]
    assert window_lengths(torch.empty(12, 8), None) is None


def test_checkpointed_blocks_give_the_same_bits():
    body, again = made(layers=2), made(layers=2)
    again.is_recomputed = True
    with bf16():
        for one, other in zip(passes(body, [30, 66]), passes(again, [30, 66]), strict=True):
            assert torch.equal(one, other)


def test_weights_that_do_not_learn_get_no_gradient():
    body = made()
    body.blocks[0].attention.qkv.requires_grad_(False)
    body.blocks[0].feed_forward.down.weight.requires_grad_(False)
    learned = body.blocks[0].feed_forward.up.weight
    with bf16():
        body(torch.randn(1, 20, 64), None).sum().backward()
    assert body.blocks[0].attention.qkv.weight.grad is None
    assert body.blocks[0].feed_forward.down.weight.grad is None
    assert learned.grad is not None


def test_large_numbers_have_finite_gradients():
    body = made()
    with torch.no_grad():
        body.blocks[0].feed_forward.up.weight.mul_(1000)
        body.blocks[0].attention.qkv.weight.mul_(100)
    with bf16():
        assert all(torch.isfinite(part).all() for part in passes(body, [50]))


def test_what_is_no_number_stays_none():
    """So that a step is not taken, as with torch."""
    body = made()
    with torch.no_grad():
        body.blocks[0].feed_forward.up.bias[3] = torch.nan
    with bf16():
        answer = passes(body, [50])
    assert all(part.isnan().any() for part in answer[:2])


def test_what_is_kept_is_less_than_half_of_what_torch_keeps(in_torch, monkeypatch):
    kept: list[int] = []

    def note(tensor: Tensor) -> Tensor:
        kept.append(tensor.untyped_storage().nbytes())
        return tensor

    body, x = made(width=128, inner=512), torch.randn(8, 128, 128, requires_grad=True)
    weights = sum(weight.nbytes for weight in body.parameters())
    around = Around(lengths=torch.full((8,), 128), heads=2, eps=1e-12)
    sizes = []
    for run in (
        lambda: body(x, None),
        lambda: NativeBlock.apply(x.view(-1, 128), around, *order(body)),
    ):
        kept.clear()
        with bf16(), torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            run()
        sizes.append(sum(kept) - weights)
    assert 2 * sizes[1] < sizes[0]


def order(body: Body) -> list[Tensor]:
    block: Block = body.blocks[0]
    modules = (block.attention.qkv, block.attention.output, block.norm1)
    modules += (block.feed_forward.up, block.feed_forward.down, block.norm2)
    return [weight for module in modules for weight in (module.weight, module.bias)]


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"lengths": torch.tensor([4, 5])}, "do not make up 8 contiguous"),
        ({"lengths": torch.tensor([9, -1])}, "the kernels refuse"),
        ({"lengths": torch.tensor([8, 0])}, "the kernels refuse"),
        ({"heads": 0}, "the kernels refuse"),
        ({"heads": -2}, "the kernels refuse"),
        ({"heads": 3}, "the kernels refuse"),
        ({"seeds": torch.zeros(7, dtype=torch.int64)}, "expected 8 seeds"),
    ],
    ids=str,
)
def test_rows_that_do_not_fit_are_refused(changed, told):
    block = made().blocks[0]
    weights = [weight for part in block._parts() for weight in (part.weight, part.bias)]
    around = replace(Around(lengths=torch.tensor([8]), heads=2, eps=1e-12), **changed)
    with pytest.raises(ValueError, match=told):
        NativeBlock.apply(torch.randn(8, 64), around, *weights)
    with pytest.raises(ValueError, match="takes contiguous float32"):
        NativeBlock.apply(
            torch.randn(8, 64), Around(torch.tensor([8]), heads=2, eps=1e-12), *weights[:-1], torch.ones(3)
        )
