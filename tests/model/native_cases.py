"""Bodies with random weights, and passes through them, for the tests of blocks in kernels."""

from functools import partial

import torch
from torch import Tensor

from spacy_electra.model.attention import Mask
from spacy_electra.model.dropout import Dropout
from spacy_electra.model.encoder import Body, EncoderShape

bf16 = partial(torch.autocast, "cpu", torch.bfloat16)


def made(*, width: int = 64, heads: int = 2, inner: int = 128, layers: int = 1) -> Body:
    torch.manual_seed(0)
    shape = EncoderShape(
        layers=layers, width=width, feed_forward=inner, heads=heads, embedding=width, vocab=9, positions=9
    )
    body = Body(shape)
    with torch.no_grad():
        for weight in body.parameters():
            if weight.dim() == 1:
                weight.add_(0.1 * torch.randn_like(weight))
            else:
                weight.normal_(std=weight.shape[1] ** -0.5)
    return body


def mask_of(lengths: list[int]) -> Mask:
    number = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))[None]
    return Mask((number[:, :, None] == number[:, None, :])[:, None], lengths=torch.tensor(lengths))


def passes(body: Body, lengths: list[int], drop: Dropout | None = None) -> list[Tensor]:
    """What a body gives for random rows, the gradient of what it read, and those of its parameters."""
    random = torch.Generator().manual_seed(1)
    width = body.blocks[0].norm1.weight.shape[0]
    x = torch.randn(1, sum(lengths), width, generator=random, requires_grad=True)
    error = torch.randn(1, sum(lengths), width, generator=random)
    answer = body(x, mask_of(lengths), drop).float()
    answer.backward(error)
    gradients = [weight.grad for weight in body.parameters()]
    body.zero_grad()
    return [answer.detach(), x.grad, *gradients]
