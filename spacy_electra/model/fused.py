"""Blocks of an encoder for predictions in bfloat16 on CPUs: bias, GELU and residual sum inside oneDNN's products.

torch's own linear layer writes the bias, reads it back and adds the product; then GELU and the residual sum each read
and write everything again. oneDNN does all of it where the product is still at hand. Its kernels have no gradient.
Also which products of an encoder are of bytes, and which stay in bfloat16 beside them.
"""

from collections.abc import Collection

import torch
from torch import Tensor, nn

from spacy_electra.model.attention import Blocks, Mask, attend
from spacy_electra.model.capability import has_bf16_products
from spacy_electra.model.dropout import Dropout
from spacy_electra.model.encoder import Block, Encoder
from spacy_electra.model.int8 import ATTENTION, FEED_FORWARD, part_of, with_int8_products


class PackedLinear(nn.Module):
    """x W' + b in bfloat16, alone or with what comes next; the weight lies in the order that the kernel reads."""

    weight: Tensor
    bias: Tensor

    def __init__(self, linear: nn.Linear):
        super().__init__()
        packed = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach().bfloat16())
        self.register_buffer("weight", packed, persistent=False)
        self.register_buffer("bias", linear.bias.detach().bfloat16(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """The product in the type of x."""
        product: Tensor = torch.ops.mkldnn._linear_pointwise(x.bfloat16(), self.weight, self.bias, "none", [], "")
        return product.to(x.dtype)

    def gelu(self, x: Tensor) -> Tensor:
        """The erf GELU of the product."""
        product: Tensor = torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, "gelu", [], "none")
        return product

    def added_to(self, residual: Tensor, x: Tensor) -> Tensor:
        """The residual plus the product."""
        total: Tensor = torch.ops.mkldnn._linear_pointwise.binary(x, residual, self.weight, self.bias, "add")
        return total


class FusedBlock(nn.Module):
    """What a `Block` computes without dropout."""

    def __init__(self, block: Block):
        super().__init__()
        self.heads = block.attention.heads
        self.qkv = PackedLinear(block.attention.qkv)
        self.output = PackedLinear(block.attention.output)
        self.norm1 = block.norm1
        self.up = PackedLinear(block.feed_forward.up)
        self.down = PackedLinear(block.feed_forward.down)
        self.norm2 = block.norm2

    def forward(self, x: Tensor, mask: Mask | Blocks | None, drop: Dropout | None) -> Tensor:
        assert drop is None
        x = self.norm1(self.output.added_to(x, attend(self.qkv(x), heads=self.heads, mask=mask)))
        answer: Tensor = self.norm2(self.down.added_to(x, self.up.gelu(x)))
        return answer


def with_fused_blocks(encoder: Encoder) -> Encoder:
    """Put a `FusedBlock` in the place of every block of an encoder, which is changed and returned."""
    for number, block in enumerate(encoder.body.blocks):
        assert isinstance(block, Block)
        encoder.body.blocks[number] = FusedBlock(block)
    return encoder


def with_bytes(encoder: Encoder, *, fastest: torch.dtype, excluded: Collection[str] = ()) -> Encoder:
    """Let an encoder, which is changed and returned, multiply bytes, but for the first product of its first block,
    and what projects its embeddings.

    That product decides where the block looks; rounded, it moves single pieces as far as all others do. fastest: the
    type that the processor is fastest in beside bytes, in which long rows attend. excluded: parts that multiply in that
    type as well, of `int8.parts_of`.
    """
    blocks = [block for block in encoder.body.blocks if isinstance(block, Block)]
    kept: list[tuple[nn.Module, str]] = [(blocks[0].attention, "qkv")]
    if isinstance(encoder.body.project, nn.Linear):
        kept.append((encoder.body, "project"))
    for number, block in enumerate(blocks):
        if part_of(number, ATTENTION) in excluded:
            kept += [(block.attention, name) for name in ("qkv", "output") if number or name != "qkv"]
        if part_of(number, FEED_FORWARD) in excluded:
            kept += [(block.feed_forward, name) for name in ("up", "down")]
    with_int8_products(encoder, but=[getattr(parent, name) for parent, name in kept])
    if fuses_products(torch.device("cpu"), fastest):
        for parent, name in kept:
            parent.add_module(name, PackedLinear(getattr(parent, name)))
        for block in blocks:
            block.attention.long_dtype = fastest
    return encoder


def fuses_products(device: torch.device, dtype: torch.dtype) -> bool:
    """True where torch has the kernels and the processor runs them (AVX512); in float32 they gain nothing."""
    return device.type == "cpu" and dtype == torch.bfloat16 and has_bf16_products()
