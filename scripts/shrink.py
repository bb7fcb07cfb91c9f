"""A small copy of a tied run's model, to ship with a project: bytes or half precision, nothing stored twice.

The generator of a tied run has the discriminator's body, so its folder needs no more than the head that guesses.
Example: python scripts/shrink.py training/checkpoint/model-last assets/electra-en --int8
"""

import json
import shutil
from pathlib import Path

import torch
import typer
from wasabi import msg

from spacy_electra.cli.errors import clear_errors
from spacy_electra.data.atomic_folder import replaced_folder
from spacy_electra.data.tokenizer.files import TOKENIZER_FILES
from spacy_electra.model.files.int8 import compressed, expanded
from spacy_electra.model.files.names import INT8_METHOD, is_int8
from spacy_electra.model.files.tensor_files import read_tensors, write_tensors
from spacy_electra.model.files.weight_files import WEIGHTS

HEAD = ("generator_predictions.", "generator_lm_head.")
FINE = ("position_embeddings.weight", "token_type_embeddings.weight", "dense_prediction.weight")  # small, and exact


@clear_errors
def main(
    model: Path = typer.Argument(..., help="model-last/ or model-best/ of a run whose generator is tied"),
    output: Path = typer.Argument(..., help="Folder to write"),
    int8: bool = typer.Option(False, "--int8", help="Linear layers and word embeddings in bytes, a scale a row"),
) -> None:
    """Write `discriminator/` in half precision or bytes, and `generator/` without what the discriminator has.

    Bytes are read by this package alone; `spacy electra export` makes a plain folder of them.
    """
    for half in ("discriminator", "generator"):
        if not (model / half / WEIGHTS).is_file():
            raise FileNotFoundError(f"there is no {model / half / WEIGHTS}: give the model-last/ of a pretraining run.")
    check_tied(model)
    with replaced_folder(output, last="discriminator", gone=()) as folder:
        for half in ("discriminator", "generator"):
            shrink(model / half, folder / half, int8=int8)
    size = sum(path.stat().st_size for path in output.rglob("*") if path.is_file())
    msg.good(f"{output}: {size / 1e6:.1f} MB")


def shrink(half: Path, target: Path, *, int8: bool) -> None:
    """Copy one half, smaller, without what the discriminator has."""
    shutil.copytree(half, target)
    is_generator = half.name == "generator"
    config = json.loads((target / "config.json").read_text(encoding="utf8"))
    weights = read_tensors(half / WEIGHTS)
    if is_int8(config):
        weights = expanded(weights)
        del config["quantization_config"]
    kept = {name: tensor for name, tensor in weights.items() if not is_generator or name.startswith(HEAD)}
    if is_generator:
        for name in TOKENIZER_FILES:
            (target / name).unlink(missing_ok=True)
    if int8:
        matrices = {name for name, tensor in kept.items() if tensor.dim() == 2 and not name.endswith(FINE)}
        write_tensors(compressed(kept, linear=matrices), target / WEIGHTS)
        config["quantization_config"] = {"quant_method": INT8_METHOD}
    else:
        write_tensors({name: tensor.to(torch.float16) for name, tensor in kept.items()}, target / WEIGHTS)
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
