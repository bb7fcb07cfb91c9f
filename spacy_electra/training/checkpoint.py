"""Checkpoints: all that resuming needs, written whole, then pointed at. Safetensors and JSON only.

    checkpoints/step-00000400/weights.safetensors    the model's tensors by name
                              optimizer.safetensors  the optimizer's, `AdamW.named_state`
                              state.json             `State`, and the checksums of the other two
    latest                                           the name of the newest complete checkpoint

There is no random state: all randomness is a function of seed, epoch and row.
"""

import json
import logging
import math
import shutil
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from torch import Tensor

from spacy_electra.data.atomic import replace_file, sha256_of
from spacy_electra.data.atomic_folder import remove_partial, replaced_folder, settle
from spacy_electra.data.tokenizer.checks import read_json
from spacy_electra.model.files.tensor_files import read_tensors, write_tensors
from spacy_electra.training.state import State, Sums

logger = logging.getLogger("spacy_electra")

LATEST = "latest"
CHECKPOINTS = "checkpoints"
CHECKPOINT_WEIGHTS, OPTIMIZER, STATE = "weights.safetensors", "optimizer.safetensors", "state.json"
SUMS = "sha256"  # of the other two files, in the state's
OLD_STATE_NAMES = {  # in states of version 0.1
    "rows_at_once": "micro_batch_size",
    "asked_at_once": "asked_micro_batch_size",
    "rate_share": "lr_scale",
}


@dataclass(frozen=True, eq=False)
class Checkpoint:
    weights: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    state: State


def write_checkpoint(run: Path, checkpoint: Checkpoint, *, keep: int) -> Path:
    """Write a checkpoint, point `latest` at it, and remove all but the newest ones.

    The caller holds the folder.

    run: folder of the run.
    keep: number of checkpoints to keep.
    Raises OSError if the checkpoint cannot be written; earlier ones then stay.
    """
    name = f"step-{checkpoint.state.step:08d}"
    folder = run / CHECKPOINTS
    folder.mkdir(parents=True, exist_ok=True)
    remove_partial(folder)
    with replaced_folder(folder / name, last=STATE, is_held=True) as partial:
        _write(checkpoint, partial)
    replace_file(run / LATEST, f"{name}\n".encode())
    _drop_all_but(folder, name, keep)
    return folder / name


def _write(checkpoint: Checkpoint, folder: Path) -> None:
    files = [folder / CHECKPOINT_WEIGHTS, folder / OPTIMIZER]
    for path, tensors in zip(files, (checkpoint.weights, checkpoint.optimizer), strict=True):
        write_tensors(_on_cpu(tensors), path, is_summed=False)
    (folder / STATE).write_text(json.dumps(_to_json(checkpoint.state, files), indent=1), encoding="utf8")


def _drop_all_but(folder: Path, name: str, keep: int) -> None:
    """Names sort by step; later steps than that of `name` belong to a run that went on from another checkpoint."""
    names = sorted(path.name for path in folder.glob("step-*"))
    kept = [other for other in names if other <= name][-keep:]
    for other in set(names) - set(kept):
        shutil.rmtree(folder / other, ignore_errors=True)


def read_checkpoint(run: Path) -> Checkpoint | None:
    """The checkpoint that `latest` names, or the newest undamaged one before it; None if there is none.

    A damaged one is skipped with a warning. Raises ValueError if all are damaged.

    run: folder of the run.
    """
    if not has_checkpoint(run):
        return None
    pointer = run / LATEST
    names = sorted((path.name for path in (run / CHECKPOINTS).glob("step-*")), reverse=True)
    newest = pointer.read_text(encoding="utf8").strip() if pointer.is_file() else names[0]
    # Later ones were not yet pointed at, or belong to a run that went on from an earlier one: the last resort
    before, after = [name for name in names if name <= newest], [name for name in names if name > newest]
    for name in [*dict.fromkeys([newest, *before]), *after]:
        if (checkpoint := _read_whole(run / CHECKPOINTS / name)) is not None:
            return checkpoint
    raise ValueError(
        f"no checkpoint in {run / CHECKPOINTS} can be read, the newest is {newest}: copy a whole one back from a "
        f"backup and write its name into {pointer}, or start again in another folder."
    )


def has_checkpoint(run: Path) -> bool:
    """Whether the run in the folder `run` has a checkpoint, damaged or not."""
    return (run / LATEST).is_file() or any((run / CHECKPOINTS).glob("step-*"))


def _read_whole(folder: Path) -> Checkpoint | None:
    """None, with a warning, where the checkpoint is damaged."""
    try:
        return _read(folder)
    except (OSError, ValueError, TypeError, KeyError, SafetensorError) as error:
        logger.warning("the checkpoint %s is damaged and passed over: %s", folder, error)
        return None


def _read(folder: Path) -> Checkpoint:
    """Raises ValueError or another error where a file is not what was written."""
    settle(folder)
    record = read_json((folder / STATE).read_text(encoding="utf8"), source=STATE)
    expected_sums = record.pop(SUMS, None)
    if not isinstance(expected_sums, dict) or sorted(expected_sums) != sorted((CHECKPOINT_WEIGHTS, OPTIMIZER)):
        raise ValueError(f"{STATE} must hold the checksums of {CHECKPOINT_WEIGHTS} and {OPTIMIZER}")
    for name, expected in expected_sums.items():
        if (found := sha256_of(folder / name)) != expected:
            raise ValueError(f"{name} was changed after it was written (sha256 {found[:12]}, not {expected!s:.12})")
    return Checkpoint(
        weights=read_tensors(folder / CHECKPOINT_WEIGHTS),
        optimizer=read_tensors(folder / OPTIMIZER),
        state=_state(record),
    )


def _state(record: dict[str, Any]) -> State:
    """Raises ValueError if the record is not a state, field by field."""
    record = {OLD_STATE_NAMES.get(name, name): value for name, value in record.items()}
    sums = record.get("sums")
    if not isinstance(sums, dict):
        raise ValueError(f"{STATE}: sums must be an object, but is {sums!r:.40}")
    for kind, given in ((State, {name: value for name, value in record.items() if name != "sums"}), (Sums, sums)):
        usual = {f.name: f.default for f in fields(kind)}
        for name, value in given.items():
            is_whole = type(usual.get(name)) is int
            is_number = type(value) is int or (isinstance(value, float) and not is_whole and math.isfinite(value))
            is_fit = is_number and (value >= 0 or name == "asked_micro_batch_size" or kind is Sums)
            if name not in usual or not (is_fit or (value is None and usual[name] is None)):
                raise ValueError(f"{STATE}: {name} is {value!r:.40}, expected a number of a run")
    return State(**{**record, "sums": Sums(**sums)})


def _to_json(state: State, files: list[Path]) -> dict[str, object]:
    values = {f.name: getattr(state, f.name) for f in fields(state)}
    return {**values, "sums": state.sums.read(), SUMS: {path.name: sha256_of(path) for path in files}}


def _on_cpu(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
