"""Find a pretrained model by directory, by the name of an installed package that holds one, or by its name on the
Hugging Face hub, and read its config.
"""

import logging
from difflib import get_close_matches
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download

from spacy_electra.data.atomic_folder import settle
from spacy_electra.data.tokenizer.checks import read_json
from spacy_electra.data.tokenizer.files import FETCHED_FILES
from spacy_electra.model.files.weight_files import INDEX, OLD_INDEX, OLD_WEIGHTS, WEIGHTS, shard_names

logger = logging.getLogger(__name__)

CONFIG, ADAPTER, ONNX = "config.json", "adapter_config.json", "model.onnx"
ENTRY_POINTS = "spacy_electra_models"  # group of entry points: packages whose folder holds a model, by their names


def find_model(name: str) -> Path:
    """The directory `name`, or the local copy of the hub's model of that name, which is downloaded if missing.

    Of the weight files, only the one that `weight_files` would read is downloaded.

    Raises FileNotFoundError if there is neither.
    """
    name = located(name)
    if Path(name).is_dir():
        settle(Path(name))
        return Path(name)
    if Path(name).exists():
        raise FileNotFoundError(f"{name} is a file, expected the directory that holds {CONFIG} and {WEIGHTS}.")
    if not _may_be_on_hub(name):
        start = "" if Path(name).is_absolute() else f", which begins at {Path.cwd()}"
        raise FileNotFoundError(
            f"there is no directory {name!r}, expected one that holds {CONFIG} and {WEIGHTS}, e.g. "
            f"RUN/model-last/discriminator: check the path{start}."
        )
    folder = _fetch(name, [CONFIG, ADAPTER, WEIGHTS, INDEX, *FETCHED_FILES])
    if not any((folder / kind).exists() for kind in (WEIGHTS, INDEX)):
        _fetch(name, [OLD_WEIGHTS, OLD_INDEX])
    if shards := shard_names(folder):
        _fetch(name, shards)
    return folder


def located(name: str) -> str:
    """The folder of an installed package of this name that holds a model; otherwise the name itself.

    A directory of that name takes precedence. "-" in a package's name becomes "_", as in imports.
    """
    if "/" in name or Path(name).exists():
        return name
    for package in entry_points(group=ENTRY_POINTS, name=name.replace("-", "_")):
        spec = find_spec(package.module)
        if spec is not None and spec.submodule_search_locations:
            return str(spec.submodule_search_locations[0])
    return name


def _fetch(name: str, files: list[str]) -> Path:
    """The local copy of a model on the hub, with those of the files that it has."""
    try:
        return Path(snapshot_download(name, allow_patterns=files))
    except (OSError, ValueError) as error:  # the hub's client: no network, no such model, no possible name
        raise FileNotFoundError(
            f"{name!r} is neither a directory nor a model that is installed or can be reached on the Hugging Face hub "
            f"({type(error).__name__}). {_spelling(name)}; where there is no network, fetch it on another machine "
            f"(hf download {name} --local-dir DIR) and give that directory instead."
        ) from error


def _spelling(name: str) -> str:
    """What to do about a name that is no directory: the most similar directory that is there, if one is."""
    folder = Path()
    for part in name.split("/"):
        similar = get_close_matches(part, [path.name for path in folder.glob("*") if path.is_dir()], n=1, cutoff=0.8)
        if not similar:
            return "Check the spelling"
        folder /= similar[0]
    return f"Did you mean the directory {folder}? If not, check the spelling"


def _may_be_on_hub(name: str) -> bool:
    """Whether `name` has the form `model` or `owner/model`; all else can be nothing but a path."""
    parts = name.split("/")
    return len(parts) <= 2 and "\\" not in name and all(part and part[0] not in ".~" for part in parts)


def find_discriminator(name: str) -> Path:
    """The directory of a discriminator: that of `find_model`, or its subfolder `discriminator/` (a run's model-last/).

    Raises FileNotFoundError if there is none.
    """
    return find_model(_discriminator(name))


def find_generator(discriminator: str, name: str | None) -> Path | None:
    """The directory of a generator.

    name: its directory or hub name. None: the name of the discriminator with "generator" in it, and the result is None
        if there is no such model.
    Raises FileNotFoundError if `name` cannot be found.
    """
    if name is not None:
        name = located(name)
        settle(Path(name))
        inside = Path(name) / "generator"
        return inside if inside.is_dir() else find_model(name)
    discriminator = _discriminator(discriminator)
    if not discriminator.endswith("discriminator"):
        return None
    guessed = discriminator.removesuffix("discriminator") + "generator"
    if Path(discriminator).is_dir():  # a local directory never sends us to the hub for its other half
        return find_model(guessed) if Path(guessed).is_dir() else None
    try:
        return find_model(guessed)
    except FileNotFoundError as error:
        logger.warning("%s", error)
        return None


def _discriminator(name: str) -> str:
    name = located(name)
    settle(Path(name))
    inside = Path(name) / "discriminator"
    return str(inside) if inside.is_dir() else name.rstrip("/")


def read_config(folder: Path) -> dict[str, Any]:
    """The content of config.json. Raises FileNotFoundError or ValueError if there is none that can be read."""
    path = folder / CONFIG
    if not path.is_file():
        runs = [inside for inside in (folder / "model-last", folder / "model-best") if inside.is_dir()]
        wanted = f"the directory that holds {CONFIG} and {WEIGHTS}, e.g. RUN/model-last/discriminator"
        raise FileNotFoundError(
            f"{folder} is no Hugging Face model: it has no {CONFIG}. Give {runs[0] if runs else wanted}."
        )
    try:
        text = path.read_text(encoding="utf8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no valid JSON: {error}. Copy or export the model again.") from error
    config = read_json(text, source=str(path))
    if (folder / ADAPTER).is_file():
        raise ValueError(
            f"{folder} has an {ADAPTER}: Hugging Face adds that adapter to the weights, which is not done here. Merge "
            "it with peft (merge_and_unload) and save the whole model, or remove the adapter's files from a copy."
        )
    return config
