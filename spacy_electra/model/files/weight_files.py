"""Read the weights of a Hugging Face directory: one file or shards, in safetensors or torch's format; runs no code.

Reads the first that exists: model.safetensors, its shards by model.safetensors.index.json, pytorch_model.bin, its
shards by pytorch_model.bin.index.json. That is the order of `from_pretrained`.
"""

from pathlib import Path

import torch
from torch import Tensor

from spacy_electra.data.tokenizer.checks import read_json
from spacy_electra.model.files.tensor_files import ChangedError, read_tensors

WEIGHTS, OLD_WEIGHTS = "model.safetensors", "pytorch_model.bin"
INDEX, OLD_INDEX = f"{WEIGHTS}.index.json", f"{OLD_WEIGHTS}.index.json"
# How often pytorch_model.bin may hold one number: in the word embeddings, and in the head tied to them
MOST_SHARED = 2
_OTHERS = ("tf_model.h5", "flax_model.msgpack", "model.ckpt.index")  # of TensorFlow and Flax


def read_weights(folder: Path) -> dict[str, Tensor]:
    """All tensors by name, on the CPU.

    Raises FileNotFoundError if there are none, or a shard is missing, ValueError if one cannot be read.
    """
    whole = next((kind for kind in (WEIGHTS, INDEX, OLD_WEIGHTS, OLD_INDEX) if (folder / kind).is_file()), None)
    if whole is None:
        raise FileNotFoundError(_why_none(folder))
    if whole in (WEIGHTS, OLD_WEIGHTS):
        return _read_file(folder / whole)
    names = shard_names(folder)
    if missing := [name for name in names if not (folder / name).is_file()]:
        raise FileNotFoundError(
            f"{folder} lacks {', '.join(missing)}, {len(missing)} of the {len(names)} files that {whole} names: "
            "copy or fetch the model again."
        )
    return {name: tensor for shard in names for name, tensor in _read_file(folder / shard).items()}


def shard_names(folder: Path) -> list[str]:
    """Names of the shards; empty if there are none. Raises ValueError for a damaged index."""
    if (folder / WEIGHTS).is_file():
        return []
    path = folder / INDEX
    if not path.is_file():
        path = folder / OLD_INDEX
        if (folder / OLD_WEIGHTS).is_file() or not path.is_file():
            return []
    try:
        names = set(read_json(path.read_text(encoding="utf8"), source=str(path))["weight_map"].values())
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is no index of weights ({error!r}): copy or fetch the model again.") from error
    if strange := [name for name in names if not isinstance(name, str) or Path(name).name != name]:
        raise ValueError(f"{path} names {strange[0]!r}, expected names of files beside it: fetch the model again.")
    return sorted(names)


def _read_file(path: Path) -> dict[str, Tensor]:
    try:
        is_safe = path.suffix == ".safetensors"
        weights = read_tensors(path) if is_safe else torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise  # the system's own, which names the file
    except ChangedError:
        raise
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


def _why_none(folder: Path) -> str:
    others = [name for name in _OTHERS if (folder / name).is_file()]
    hint = f" There is {others[0]}, of another library: load it with transformers and save it again." if others else ""
    return f"{folder} has a config.json but no weights: neither {WEIGHTS} nor {OLD_WEIGHTS} is there.{hint}"
