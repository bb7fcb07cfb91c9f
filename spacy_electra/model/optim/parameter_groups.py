"""Sort parameters into groups by name: with or without weight decay, and by learning rate.

Source: Clark et al. 2020, appendix A and B, and `model/optimization.py` of google-research/electra.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True)
class Group:
    """Parameters with the same weight decay and rate."""

    names: tuple[str, ...]
    parameters: tuple[nn.Parameter, ...]
    decays: bool  # False for norms and biases
    rate: float  # share of the learning rate


def parameter_groups(
    module: nn.Module, *, layer_decay: float | None = None, known: Collection[str] = ()
) -> list[Group]:
    """Group the trainable parameters of `module` by weight decay and learning rate.

    layer_decay: d in (0, 1]. The rate of heads is 1, that of the top block d, and that of each lower block d times the
        rate of the block above. The embeddings, and the projection from them, have d ** (blocks + 1). This is the
        paper's rule; Google's code gives each block one d too many.
    known: names of parameters to leave out, which are in groups already.
    """
    named = {name: p for name, p in module.named_parameters() if p.requires_grad}
    heights = _heights(named)
    sorted_names: dict[tuple[bool, float], list[str]] = {}
    for name in [name for name in named if name not in known]:
        rate = 1.0 if layer_decay is None else layer_decay ** heights[name]
        sorted_names.setdefault((_decays(name), rate), []).append(name)
    return [
        Group(names=tuple(names), parameters=tuple(named[name] for name in names), decays=decays, rate=rate)
        for (decays, rate), names in sorted_names.items()
    ]


def _decays(name: str) -> bool:
    return not (name.endswith("bias") or "norm" in name.lower())


def _heights(names: Iterable[str]) -> dict[str, int]:
    """How many layers each parameter stands below the heads (0), found from `….blocks.N.…`, `project`, `embeddings`."""
    paths = {name: name.split(".") for name in names}
    blocks: dict[str, int] = {}  # of each stack of blocks, by the name of the module that holds it
    for name, path in paths.items():
        if "blocks" in path:
            stack, number = name.split("blocks.")[0], int(path[path.index("blocks") + 1])
            blocks[stack] = max(blocks.get(stack, 0), number + 1)
    deepest = max(blocks.values(), default=0) + 1
    heights = {}
    for name, path in paths.items():
        heights[name] = 0
        if "blocks" in path:
            heights[name] = blocks[name.split("blocks.")[0]] - int(path[path.index("blocks") + 1])
        elif "project" in path:
            heights[name] = blocks.get(name.split("project.")[0], 0) + 1
        elif "embeddings" in path:
            heights[name] = deepest
    return heights
