"""Find a pretrained model by directory or by its name on the Hugging Face hub, and read its files; none is run."""

import logging
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from safetensors.torch import load_file
from torch import Tensor

from spacy_electra.data.tokenizer_checks import read_json
from spacy_electra.data.tokenizer_files import TOKENIZER_FILES

logger = logging.getLogger(__name__)

MOST_SHARED = (
    2  # times that pytorch_model.bin may hold one number: in the word embeddings, and in the head tied to them
)

CONFIG, WEIGHTS, OLD_WEIGHTS = "config.json", "model.safetensors", "pytorch_model.bin"


def find_model(name: str) -> Path:
    """The directory `name`, or the local copy of the hub's model of that name, fetched where it is not there yet.

    Raises FileNotFoundError where it is neither.
    """
    if Path(name).is_dir():
        return Path(name)
    if Path(name).exists():
        raise FileNotFoundError(f"{name} is a file, expected the directory that holds {CONFIG} and {WEIGHTS}.")
    if not _may_be_on_hub(name):
        start = "" if Path(name).is_absolute() else f", which begins at {Path.cwd()}"
        raise FileNotFoundError(
            f"there is no directory {name!r}, expected one that holds {CONFIG} and {WEIGHTS}, e.g. "
            f"RUN/model-last/discriminator: check the path{start}."
        )
    try:
        folder = Path(snapshot_download(name, allow_patterns=[CONFIG, WEIGHTS, *TOKENIZER_FILES]))
        if not (folder / WEIGHTS).exists():
            snapshot_download(name, allow_patterns=[OLD_WEIGHTS])
    except (OSError, ValueError) as error:  # the hub's client: no network, no such model, no possible name
        raise FileNotFoundError(
            f"{name!r} is neither a directory nor a model that can be reached on the Hugging Face hub "
            f"({type(error).__name__}). Check the spelling; where there is no network, fetch it on another machine "
            f"(huggingface-cli download {name} --local-dir DIR) and give that directory instead."
        ) from error
    return folder


def _may_be_on_hub(name: str) -> bool:
    """Whether `name` has the form `model` or `owner/model`; all else can be nothing but a path."""
    parts = name.split("/")
    return len(parts) <= 2 and "\\" not in name and all(part and part[0] not in ".~" for part in parts)


def find_discriminator(name: str) -> Path:
    """The directory of a discriminator: `find_model`, or what lies in `name` as `discriminator/` (a run's model-last/).

    Raises FileNotFoundError where there is none.
    """
    return find_model(_discriminator(name))


def find_generator(discriminator: str, name: str | None) -> Path | None:
    """The directory of the generator `name`; where None, of what is called like the discriminator but "generator".

    None where the name was guessed and there is none. Raises FileNotFoundError where `name` cannot be found.
    """
    if name is not None:
        inside = Path(name) / "generator"
        return inside if inside.is_dir() else find_model(name)
    discriminator = _discriminator(discriminator)
    if not discriminator.endswith("discriminator"):
        return None
    guessed = discriminator.removesuffix("discriminator") + "generator"
    if Path(discriminator).is_dir():  # a local directory never sends us to the hub for its other half
        return Path(guessed) if Path(guessed).is_dir() else None
    try:
        return find_model(guessed)
    except FileNotFoundError as error:
        logger.warning("%s", error)
        return None


def _discriminator(name: str) -> str:
    inside = Path(name) / "discriminator"
    return str(inside) if inside.is_dir() else name.rstrip("/")


def read_config(folder: Path) -> dict[str, Any]:
    """What config.json says. Raises FileNotFoundError or ValueError where there is none that can be read."""
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
    return read_json(text, source=str(path))


def read_weights(folder: Path) -> dict[str, Tensor]:
    """All tensors by name, on the CPU, from model.safetensors or else pytorch_model.bin (tensors only, no code).

    Raises FileNotFoundError or ValueError where there are none that can be read.
    """
    path = folder / WEIGHTS if (folder / WEIGHTS).is_file() else folder / OLD_WEIGHTS
    if not path.is_file():
        raise FileNotFoundError(
            f"{folder} has a {CONFIG} but no weights: neither {WEIGHTS} nor {OLD_WEIGHTS} is there."
        )
    try:
        weights = load_file(path) if path.name == WEIGHTS else torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise  # the system's own, which names the file
    except Exception as error:  # torch.load raises whatever its parts do
        raise ValueError(
            f"{path} cannot be read as weights ({type(error).__name__}): it is damaged, or holds more than tensors. "
            f"Copy or fetch it again; one that needs code to be read is never run."
        ) from error
    if not isinstance(weights, dict) or not all(isinstance(tensor, Tensor) for tensor in weights.values()):
        raise ValueError(f"{path} must hold a plain table of tensors by name, as save_pretrained writes it.")
    asked = sum(tensor.numel() * tensor.element_size() for tensor in weights.values())
    if asked > MOST_SHARED * path.stat().st_size:
        raise ValueError(f"{path} claims {asked:,} bytes of tensors, but has {path.stat().st_size:,}: copy it again.")
    return weights
