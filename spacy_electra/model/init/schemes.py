"""Initialization schemes. Takes a module, fills it in place from a seeded generator.

Small widths need more than the paper's N(0, 0.02), which is made for width 768: docs/experiments/small-models.md.
"""

import math
from typing import Literal

import torch
from torch import Tensor, nn

from spacy_electra.model.network.encoder import Attention, Block, Body, Embeddings
from spacy_electra.model.network.heads import MaskedLMHead

WithoutCorpus = Literal["paper", "fan_in", "local"]
Initialization = Literal[WithoutCorpus, "corpus"]
PAPER_STD = 0.02
OFFSETS = (-1, 1, -2, 2)  # where the first heads look, counted through the blocks
EMBEDDING_STD = 0.1  # words and positions of "local": a step of Adam is as large for a small weight as for a large one
RESIDUAL = 0.1  # of fan-in, for what a block adds to its input
SHARPNESS = 8.0  # logit of the place looked at, above all others


def initialize(model: nn.Module, *, kind: Initialization, seed: int) -> None:
    """Initialize every weight of `model`: norms with 1, biases with 0, the rest by `kind`.

    kind: "paper" is N(0, 0.02) everywhere (Clark et al. 2020, appendix A). "fan_in" has linear weights N(0,
        1/sqrt(inputs)). "local" is as "fan_in", with three changes. Blocks add a tenth to their input, as
        post-LayerNorm needs for high rates (Liu et al. 2020, "Understanding the difficulty of training transformers").
        Positions are sinusoids (Vaswani et al. 2017). The first heads attend to their neighbours, so that context is
        used from the first step (as in mimetic initialization, Trockman and Kolter 2023). Its embeddings are larger, or
        the noise of the first steps would hide the positions. "corpus" is as "local"; with a corpus, `embeddings` sets
        the word embeddings later.
    seed: of the random weights.
    """
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            _fill(name, parameter, kind=kind, random=random)
        if kind in ("local", "corpus"):
            _calm_residuals(model)
            _enlarge_embeddings(model)
            _look_around(model)


def _fill(name: str, parameter: Tensor, *, kind: Initialization, random: torch.Generator) -> None:
    if "norm" in name:
        parameter.fill_(1.0 if name.endswith("weight") else 0.0)
    elif parameter.ndim < 2:
        parameter.zero_()
    else:
        embeds = "embeddings." in name or name.split(".")[0] in {"word", "position", "token_type"}
        std = PAPER_STD if kind == "paper" or embeds else 1.0 / math.sqrt(parameter.shape[1])
        parameter.copy_(torch.randn(parameter.shape, generator=random, dtype=torch.float32, device="cpu") * std)


def sinusoids(count: int, width: int) -> Tensor:
    """(count, width) sines in the first half and cosines in the second, frequencies from pi down to pi / count."""
    angle = torch.arange(count, dtype=torch.float32, device="cpu")[:, None] * _frequencies(count, width // 2)
    return torch.cat([angle.sin(), angle.cos()], dim=1)


def _frequencies(count: int, number: int) -> Tensor:
    return torch.pi * torch.exp(-math.log(count) * torch.linspace(0.0, 1.0, number, dtype=torch.float32, device="cpu"))


def _calm_residuals(model: nn.Module) -> None:
    for block in (m for m in model.modules() if isinstance(m, Block)):
        block.attention.output.weight.mul_(RESIDUAL)
        block.feed_forward.down.weight.mul_(RESIDUAL)


def _enlarge_embeddings(model: nn.Module) -> None:
    """Words at EMBEDDING_STD, types at 0; the guesses' scores, which are products with the words, stay as small."""
    for embeddings in (m for m in model.modules() if isinstance(m, Embeddings)):
        embeddings.word.weight.mul_(EMBEDDING_STD / PAPER_STD)
        embeddings.token_type.weight.zero_()
    for head in (m for m in model.modules() if isinstance(m, MaskedLMHead)):
        head.norm.weight.mul_(PAPER_STD / EMBEDDING_STD)


def _look_around(model: nn.Module) -> None:
    """Sinusoidal positions as strong as the words, and the first heads of each body turned to their neighbours."""
    embeddings = next(m for m in model.modules() if isinstance(m, Embeddings))
    count, width = embeddings.position.weight.shape
    embeddings.position.weight.copy_(sinusoids(count, width) * (EMBEDDING_STD * math.sqrt(2.0)))
    for body in (m for m in model.modules() if isinstance(m, Body)):
        read = torch.eye(width, dtype=torch.float32, device="cpu")
        if isinstance(body.project, nn.Linear):
            nn.init.orthogonal_(body.project.weight, generator=torch.Generator().manual_seed(width))
            read = body.project.weight.t()
        attentions = [module for module in body.modules() if isinstance(module, Attention)]
        heads = [(attention, head) for attention in attentions for head in range(attention.heads)]
        for offset, (attention, head) in zip(OFFSETS, heads, strict=False):
            _turn_to(attention, head, offset, read, _frequencies(count, width // 2))


def _turn_to(attention: Attention, head: int, offset: int, read: Tensor, frequency: Tensor) -> None:
    """Make a head of `attention` look at the piece `offset` places away.

    read: (E, D) takes the embedded position out of a vector. frequency: (E/2,) of the sinusoids, highest first.
    Query and key hold the same sinusoids, the query's turned by `offset`; their product is a sum of cosines with its
    peak there. Frequencies are weighed to be evenly spread, which makes the peak narrow.
    """
    wide = attention.output.weight.shape[0]
    channels = wide // attention.heads
    pairs = min(channels // 2, len(frequency))
    half = len(frequency)
    weigh = frequency[:pairs] / frequency[:pairs].sum() * SHARPNESS * math.sqrt(channels)
    sine, cosine = read[:pairs] * weigh.sqrt()[:, None], read[half : half + pairs] * weigh.sqrt()[:, None]
    turn_sine, turn_cosine = (frequency[:pairs] * offset).sin()[:, None], (frequency[:pairs] * offset).cos()[:, None]
    query = torch.cat([sine * turn_cosine + cosine * turn_sine, cosine * turn_cosine - sine * turn_sine])
    for part, weights in ((0, query), (1, torch.cat([sine, cosine]))):
        rows = attention.qkv.weight[part * wide + head * channels : part * wide + (head + 1) * channels]
        rows.zero_()
        rows[: 2 * pairs] = weights
