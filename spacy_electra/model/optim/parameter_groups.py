"""Which parameters are updated alike: what decays, and how fast each layer learns, told by their names.

Source: Clark et al. 2020, appendix A and B, and `model/optimization.py` of google-research/electra.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True)
class Group:
    """Parameters that are updated alike."""

    names: tuple[str, ...]
    parameters: tuple[nn.Parameter, ...]
    decays: bool  # False for norms and biases
    rate: float  # share of the learning rate


def parameter_groups(
    module: nn.Module, *, layer_decay: float | None = None, known: Collection[str] = ()
) -> list[Group]:
    """Sort the trainable parameters of `module` by name: what decays, and how fast each layer learns.

    layer_decay: d in (0, 1]. Heads learn at the full rate, the top block at d, each block below at d times the rate of
    the one above, the embeddings (and the projection from them) at d ** (blocks + 1). The paper's rule; Google's code
    gives each block one d too many. known: names of parameters that are in groups already, and left out.
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
