"""LoRA adapters in the layers of an encoder: trained in place of the weights, and merged into them.

The adapters are those of the peft library, which is imported only to add them.
Source: Hu et al. 2021, LoRA: Low-Rank Adaptation of Large Language Models.
"""

from collections.abc import Iterable
from typing import Any, cast

import torch
from torch import Tensor, nn

from spacy_electra.model.network.encoder import Encoder

LINEAR = ("qkv", "output", "up", "down")  # all linear layers of a block, by their names in it
ADAPTER_NAME = "default"


def has_adapters(encoder: Encoder) -> bool:
    """True if `add_adapters` has added adapters to a layer."""
    return any(hasattr(block.get_submodule("attention.qkv"), "lora_A") for block in encoder.body.blocks)


def check_peft(rank: int) -> None:
    """Raise ValueError if the peft library is missing, which LoRA adapters need.

    rank: of the adapters, for the message.
    """
    try:
        import peft  # noqa: F401
    except ImportError as error:
        raise ValueError(
            f"lora_rank={rank} needs the peft library, which cannot be imported ({error}): "
            f'pip install "peft<0.22", or set lora_rank to 0 to train the weights themselves. '
            f"Predictions need no peft."
        ) from error


def add_adapters(encoder: Encoder, blocks: Iterable[nn.Module], *, rank: int, alpha: float) -> None:
    """Add LoRA adapters to all linear layers of `blocks`, and freeze all other parameters of the encoder.

    New adapters do not change the output.

    rank: inner dimension of an adapter.
    alpha: the output of an adapter is scaled by alpha / rank.
    Raises ValueError if the peft library is missing.
    """
    check_peft(rank)
    from peft import LoraConfig, inject_adapter_in_model

    # peft says int, and multiplies by whatever number it is
    config = LoraConfig(r=rank, lora_alpha=cast(int, alpha), target_modules=list(LINEAR), lora_dropout=0.0)
    for block in blocks:
        inject_adapter_in_model(config, block, adapter_name=ADAPTER_NAME)
    for name, parameter in encoder.named_parameters():
        parameter.requires_grad_(".lora_" in name)


@torch.no_grad()
def merged(encoder: Encoder) -> Encoder:
    """A new encoder with the adapters merged into its weights. It shares the tensors that have no adapter."""
    weights: dict[str, Tensor] = {
        name.replace(".base_layer.", "."): tensor
        for name, tensor in encoder.state_dict().items()
        if ".lora_" not in name
    }
    for name, layer in encoder.named_modules():
        if hasattr(layer, "get_delta_weight"):
            adapted: Any = layer
            weights[f"{name}.weight"] = weights[f"{name}.weight"] + adapted.get_delta_weight(ADAPTER_NAME)
    with torch.device("meta"):
        plain = Encoder(encoder.shape)
    plain.load_state_dict(weights, assign=True)
    return plain
