"""The config that a run on disk began with. A config that resumes the run must agree with it."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from confection import Config
from spacy.util import load_config
from wasabi import msg

from spacy_electra.cli.renamed import rename_keys
from spacy_electra.cli.settings import PretrainingConfig
from spacy_electra.data.atomic import replace_file
from spacy_electra.data.store.reader import Store
from spacy_electra.data.tokenizer.difference import cut_alike, difference
from spacy_electra.data.tokenizer.wordpiece import WordPiece
from spacy_electra.model.precision import NAMES
from spacy_electra.training.checkpoint import has_checkpoint
from spacy_electra.training.context import RunContext
from spacy_electra.training.run import LAST
from spacy_electra.training.schema import CORPORA

RUN_CONFIG, RESOLVED = "config.cfg", "resolved.cfg"
HELD_OUT = "held out of train"
# What decides which weights there are and what a place in the data means. The corpora, and the weights of a teacher,
# are compared by their content.
FIXED = (
    "model",
    "paths.init",
    "system.seed",
    "training.batch_rows",
    "training.mask_rate",
    "training.unmasked_fraction",
    "training.discriminator_weight",
    "teacher",
)
CHANGEABLE = ("model.tokenizer", "model.precision", "model.dropout", "model.activation_checkpointing", "teacher.name")


@dataclass(frozen=True)
class StoredRun:
    """The configs that a run began with."""

    folder: Path
    config: Config  # as it was given, with all defaults
    resolved: Config  # what `auto` chose, and the data

    @property
    def tables(self) -> dict[str, int] | None:
        """Lengths of the tables of positions and token types; None for a run of an older version."""
        return self.resolved.get("tables")


def read_stored_run(folder: Path) -> StoredRun | None:
    """Read what `write_run_config` wrote into `folder`; None if there is no checkpoint to resume from."""
    if not (has_checkpoint(folder) and all((folder / name).is_file() for name in (RUN_CONFIG, RESOLVED))):
        return None
    config, resolved = load_config(folder / RUN_CONFIG), load_config(folder / RESOLVED)
    for each in (config, resolved):
        rename_keys(each)
    return StoredRun(folder, config, resolved)


def write_run_config(
    folder: Path,
    settings: PretrainingConfig,
    context: RunContext,
    *,
    train: Store,
    dev: Store | None,
    corpora: Mapping[str, Store],
) -> None:
    """Write config.cfg and resolved.cfg.

    dev: the store of the dev set, if it has its own.
    corpora: the stores that are mixed into train, by name.
    """
    replace_file(folder / RUN_CONFIG, settings.config.to_str().encode())
    resolved = settings.config.copy()
    resolved["model"]["precision"] = NAMES[context.model.shim.choice.training]
    resolved["system"]["compile"] = context.model.shim.training_forward is not None
    resolved["training"]["micro_batch_size"] = context.micro_batch.rows
    resolved["machine"] = {
        "device": str(context.device),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
    resolved["data"] = fingerprints(train, dev, corpora)
    shape = context.model.network.shape
    resolved["tables"] = {"positions": shape.positions, "types": shape.types}
    if context.teacher is not None:
        resolved["teacher"]["fingerprint"] = context.teacher.fingerprint
    replace_file(folder / RESOLVED, resolved.to_str().encode())


def fingerprints(train: Store, dev: Store | None, corpora: Mapping[str, Store]) -> dict[str, str]:
    """Identify the rows of a run by their content, not by folder names. No corpus is called train or dev."""
    named = {name: store.fingerprint for name, store in corpora.items()}
    return {"train": train.fingerprint, "dev": dev.fingerprint if dev else HELD_OUT, **named}


def resume_config(
    beginning: StoredRun,
    settings: PretrainingConfig,
    *,
    tokenizer: WordPiece,
    train: Store,
    dev: Store | None,
    corpora: Mapping[str, Store],
) -> PretrainingConfig:
    """The settings, with what `auto` chose when the run began. Also sets its number of threads.

    Raises ValueError for a change that does not fit the checkpoint; reports the other changes.
    """
    _check_corpora(beginning, corpora)
    before, now = (dict(_flat(config)) for config in (beginning.config, settings.config))
    for key in now | before:  # in the order of the config: ${paths.init} is told before what it stands for
        if before.get(key) == now.get(key):
            continue
        if _is_fixed(key):
            raise _refusal(beginning.folder, key, before.get(key), now.get(key))
        msg.info(f"{key} was {before.get(key)} when the run began, now it is {now.get(key)}")
    _check_tokenizer(beginning.folder, tokenizer)
    found, stores = fingerprints(train, dev, corpora), {"train": train, "dev": dev, **corpora}
    for part, fingerprint in beginning.resolved["data"].items():
        if fingerprint != found[part]:
            held = fingerprint if fingerprint == HELD_OUT else "other text"
            key = f"{CORPORA}.{part}.path" if part in corpora else f"paths.{part}"
            raise _refusal(beginning.folder, key, held, _described(stores[part]))
    set_threads(beginning.resolved["machine"]["threads"])
    changes: dict[str, Any] = {}
    if settings.config["model"].get("precision") == "auto":
        changes["precision"] = beginning.resolved["model"]["precision"]
    if beginning.tables is not None:  # all weights come from the checkpoint: where they once came from may be gone
        changes |= {"init": None, "init_layers": None}
    return settings.with_model(**changes)


def check_teacher(beginning: StoredRun, context: RunContext) -> None:
    """Raise ValueError if the run began with other weights of its teacher."""
    if context.teacher is not None and context.teacher.fingerprint != beginning.resolved["teacher"]["fingerprint"]:
        raise _unfit(beginning.folder, "a teacher of other weights than teacher.name has now")


def _check_corpora(beginning: StoredRun, corpora: Mapping[str, Store]) -> None:
    """Raise ValueError if the names of the mixed corpora differ from those at the start of the run."""
    before = beginning.config.get(CORPORA, {})
    for name in (*before, *corpora):
        if name not in corpora:
            raise _unfit(beginning.folder, f"a section [{CORPORA}.{name}], but now there is none")
        if name not in before:
            raise _unfit(beginning.folder, f"no section [{CORPORA}.{name}], but now there is one")


def _check_tokenizer(folder: Path, tokenizer: WordPiece) -> None:
    """Raise ValueError if the run began with another tokenizer. Runs of older versions may lack theirs."""
    try:
        before = WordPiece.load(folder / "tokenizer")
    except FileNotFoundError:
        return
    if not cut_alike(before, tokenizer):
        raise _unfit(folder, f"another vocabulary than paths.tokenizer ({difference(before, tokenizer)})")


def _described(store: Store | None) -> str:
    return f"{store.directory} ({store.documents:,} documents, {store.pieces:,} pieces)" if store else HELD_OUT


def set_threads(count: int) -> None:
    """Use as many threads as before, so that sums are equal; OMP_NUM_THREADS and fewer cores take precedence."""
    if "OMP_NUM_THREADS" not in os.environ and count <= (os.cpu_count() or 1):
        torch.set_num_threads(count)


def _is_fixed(key: str) -> bool:
    inside = [f"{name}." for name in FIXED]
    is_weight = key.startswith(f"{CORPORA}.") and key.endswith(".weight")
    return key not in CHANGEABLE and (key in FIXED or key.startswith(tuple(inside)) or is_weight)


def _refusal(folder: Path, key: str, before: Any, now: Any) -> ValueError:
    return _unfit(folder, f"{key} = {before}, but now it is {now}")


def _unfit(folder: Path, how: str) -> ValueError:
    is_finished = (folder / LAST).is_dir()
    other = f"; paths.init = {folder / LAST} starts from its finished weights" * is_finished
    return ValueError(
        f"the run in {folder} was begun with {how}: its checkpoint does not fit. "
        f"Set it back, or start in another folder{other}."
    )


def _flat(section: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted names and plain values, section by section."""
    for key, value in section.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
