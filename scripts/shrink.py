"""A small copy of a tied run's model, to ship with a project: half precision, nothing stored twice.

The generator of a tied run has the discriminator's body, so its folder needs no more than the head that guesses.
Example: python scripts/shrink.py training/checkpoint/model-last assets/electra-tiny
"""

import json
import shutil
from pathlib import Path

import torch
import typer
from wasabi import msg

from spacy_electra.cli.errors import clear_errors
from spacy_electra.data.replacing import replaced_folder
from spacy_electra.model.tensor_files import read_tensors, write_tensors

HEAD = ("generator_predictions.", "generator_lm_head.")
WEIGHTS = "model.safetensors"


@clear_errors
def main(
    model: Path = typer.Argument(..., help="model-last/ or model-best/ of a run whose generator is tied"),
    output: Path = typer.Argument(..., help="Folder to write"),
) -> None:
    """Write `discriminator/` in half precision and `generator/` without what the discriminator has."""
    for half in ("discriminator", "generator"):
        if not (model / half / WEIGHTS).is_file():
            raise FileNotFoundError(f"there is no {model / half / WEIGHTS}: give the model-last/ of a pretraining run.")
    check_tied(model)
    with replaced_folder(output, last="discriminator", gone=()) as folder:
        for half in ("discriminator", "generator"):
            shrink(model / half, folder / half)
    size = sum(path.stat().st_size for path in output.rglob("*") if path.is_file())
    msg.good(f"{output}: {size / 1e6:.1f} MB")


def shrink(half: Path, target: Path) -> None:
    """Copy one half in half precision, without what the discriminator has."""
    shutil.copytree(half, target)
    weights = read_tensors(half / WEIGHTS)
    kept = {name: tensor for name, tensor in weights.items() if half.name != "generator" or name.startswith(HEAD)}
    write_tensors({name: tensor.to(torch.float16) for name, tensor in kept.items()}, target / WEIGHTS)
    config = json.loads((target / "config.json").read_text(encoding="utf8"))
    config["torch_dtype"] = "float16"
    (target / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf8")


def check_tied(model: Path) -> None:
    """Raise ValueError where the generator has a body of its own."""
    big = read_tensors(model / "discriminator" / WEIGHTS)
    small = read_tensors(model / "generator" / WEIGHTS)
    for name, tensor in small.items():
        if not name.startswith(HEAD) and (name not in big or not torch.equal(tensor, big[name])):
            raise ValueError(f"the generator in {model} has its own {name}: only tied runs can be shrunk like this.")


if __name__ == "__main__":
    typer.run(main)
