"""Everything that resuming needs, written whole, then pointed at. Safetensors and JSON, nothing else.

    checkpoints/step-00000400/weights.safetensors    the model's tensors by name
                              optimizer.safetensors  the optimizer's, `AdamW.named_state`
                              state.json             `State`
    latest                                           the name of the newest whole checkpoint

There is no random state: all randomness is a function of seed, epoch and row.
"""

import json
import os
import shutil
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor


@dataclass(frozen=True)
class State:
    """Where a run stands, apart from its tensors."""

    step: int = 0  # optimizer steps taken
    row: int = 0  # the next global row
    seconds: float = 0.0  # of the budget, spent
    best_loss: float | None = None  # lowest dev loss among those that count
    sums: dict[str, float] = field(default_factory=dict)  # training losses since the last evaluation

    def moved(self, **changes: object) -> "State":
        return replace(self, **changes)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Checkpoint:
    weights: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    state: State


def write_checkpoint(run: Path, checkpoint: Checkpoint, *, keep: int) -> Path:
    """Write a checkpoint into the folder `run`, then point `latest` at it and drop all but the newest `keep`."""
    name = f"step-{checkpoint.state.step:08d}"
    folder = run / "checkpoints"
    folder.mkdir(parents=True, exist_ok=True)
    partial, whole = folder / f".partial-{name}", folder / name
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    save_file(_flat(checkpoint.weights), partial / "weights.safetensors")
    save_file(_flat(checkpoint.optimizer), partial / "optimizer.safetensors")
    (partial / "state.json").write_text(json.dumps(asdict(checkpoint.state), indent=1), encoding="utf8")
    for path in partial.iterdir():
        _sync(path)
    if whole.exists():  # the same step, saved again at the end of a run
        shutil.rmtree(whole)
    partial.rename(whole)
    _sync(folder)
    write_whole(run / "latest", name + "\n")
    for old in sorted(folder.glob("step-*"))[:-keep]:
        shutil.rmtree(old, ignore_errors=True)
    return whole


def read_checkpoint(run: Path) -> Checkpoint | None:
    """The checkpoint that `latest` names; None where the folder holds none. Raises ValueError where it is damaged."""
    pointer = run / "latest"
    if not pointer.is_file():
        return None
    folder = run / "checkpoints" / pointer.read_text(encoding="utf8").strip()
    try:
        return Checkpoint(
            weights=load_file(folder / "weights.safetensors"),
            optimizer=load_file(folder / "optimizer.safetensors"),
            state=State(**json.loads((folder / "state.json").read_text(encoding="utf8"))),
        )
    except Exception as error:
        raise ValueError(
            f"the checkpoint {folder} cannot be read ({error}): write the name of an older one below "
            f"{folder.parent} into {pointer}, or start again in another folder."
        ) from error


def write_whole(path: Path, text: str) -> None:
    """Write a text file so that a reader sees the old content or the new, never a part."""
    partial = path.with_name(f".partial-{path.name}")
    with partial.open("w", encoding="utf8", newline="\n") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def _flat(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().contiguous().cpu() for name, tensor in tensors.items()}


def _sync(path: Path) -> None:
    """Force a file or folder to disk; Windows cannot open folders, and does not need to."""
    if path.is_dir() and os.name == "nt":
        return
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
