"""The backend for bfloat16 on CPUs: bias, GELU and residual sum fused into oneDNN's matrix multiplications.

torch's own linear layer writes the product, and bias, GELU and residual sum each read and write it again. oneDNN
applies all of them to the product while it is in cache. Its kernels have no gradient.
"""

import torch
from torch import Tensor, nn

from spacy_electra.model.inference.eager import sharing
from spacy_electra.model.network.attention import Attend
from spacy_electra.model.network.dropout import Dropout
from spacy_electra.model.network.encoder import Block, Encoder


class PackedLinear(nn.Module):
    """x W' + b in bfloat16, alone or with the next operation; the weight has the layout that the kernel reads."""

    weight: Tensor
    bias: Tensor

    def __init__(self, linear: nn.Linear):
        super().__init__()
        packed = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach().bfloat16())
        self.register_buffer("weight", packed, persistent=False)
        self.register_buffer("bias", linear.bias.detach().bfloat16(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """The product, in the dtype of x."""
        product: Tensor = torch.ops.mkldnn._linear_pointwise(x.bfloat16(), self.weight, self.bias, "none", [], "")
        return product.to(x.dtype)

    def gelu(self, x: Tensor) -> Tensor:
        """erf GELU of the product."""
        product: Tensor = torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, "gelu", [], "none")
        return product

    def added_to(self, residual: Tensor, x: Tensor) -> Tensor:
        """The residual plus the product."""
        total: Tensor = torch.ops.mkldnn._linear_pointwise.binary(x, residual, self.weight, self.bias, "add")
        return total


class FusedBlock(nn.Module):
    """Computes a `Block` without dropout."""

    def __init__(self, block: Block):
        super().__init__()
        self.heads = block.attention.heads
        self.qkv = PackedLinear(block.attention.qkv)
        self.output = PackedLinear(block.attention.output)
        self.norm1 = block.norm1
        self.up = PackedLinear(block.feed_forward.up)
        self.down = PackedLinear(block.feed_forward.down)
        self.norm2 = block.norm2

    def forward(self, x: Tensor, attend: Attend, drop: Dropout) -> Tensor:
        x = self.norm1(self.output.added_to(x, attend(self.qkv(x), self.heads, drop)))
        answer: Tensor = self.norm2(self.down.added_to(x, self.up.gelu(x)))
        return answer


def fused(encoder: Encoder) -> Encoder:
    """A copy of an encoder in bfloat16, without gradients, whose blocks are fused."""
    answer = sharing(encoder)
    assert isinstance(answer, Encoder)
    for number, block in enumerate(answer.body.blocks):
        assert isinstance(block, Block)
        answer.body.blocks[number] = FusedBlock(block)
    return answer.to(torch.bfloat16)


def is_built_in() -> bool:
    """Whether this build of torch has the kernels; the processor is not checked."""
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
