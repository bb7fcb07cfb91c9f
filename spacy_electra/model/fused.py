"""Blocks of an encoder for predictions in bfloat16 on CPUs: bias, GELU and residual sum inside oneDNN's products.

torch's own linear layer writes the bias, reads it back and adds the product; then GELU and the residual sum each read
and write everything again. oneDNN does all of it where the product is still at hand. Its kernels have no gradient.
"""

import torch
from torch import Tensor, nn

from spacy_electra.model.attention import Blocks, Mask, attend
from spacy_electra.model.capability import has_bf16_products
from spacy_electra.model.dropout import Dropout
from spacy_electra.model.encoder import Block, Encoder


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


def fuses_products(device: torch.device, dtype: torch.dtype) -> bool:
    """True where torch has the kernels and the processor runs them (AVX512); in float32 they gain nothing."""
    return device.type == "cpu" and dtype == torch.bfloat16 and has_bf16_products()
