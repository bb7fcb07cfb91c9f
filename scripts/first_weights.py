"""The weights that a pretraining run began with, as a folder: those it started from, or random ones of its shape.

What fine-tuning reaches from these is what a pipeline is worth without pretraining on one's own text.
Example: python scripts/first_weights.py training/software/pretrain/model-last/discriminator training/software/start
  --start assets/electra-en
"""

from pathlib import Path
from typing import get_args

import typer
from wasabi import msg

from spacy_electra.cli.errors import check_name, clear_errors
from spacy_electra.model.files.huggingface import save_encoder
from spacy_electra.model.init.pretrained import load_encoder
from spacy_electra.model.init.schemes import WithoutCorpus, initialize


@clear_errors
def main(
    pretrained: Path = typer.Argument(..., help="ELECTRA folder whose shape and vocabulary random weights take"),
    output: Path = typer.Argument(..., help="Folder for the weights"),
    start: str = typer.Option("null", help="What the run started from; null for random weights"),
    kind: str = typer.Option("local", help="Initialization of random weights, of those that need no corpus"),
    seed: int = typer.Option(0, help="Seed of random weights"),
) -> None:
    """Write the weights as an `ElectraModel` folder."""
    check_name(kind, get_args(WithoutCorpus), what="initialization")
    encoder, tokenizer = load_encoder(str(pretrained) if start == "null" else start)
    if start == "null":
        initialize(encoder, kind=kind, seed=seed)  # type: ignore[arg-type]
    save_encoder(encoder, tokenizer, output)
    what = f"random weights, seed {seed}" if start == "null" else f"weights of {start}"
    msg.good(f"{output}: {sum(p.numel() for p in encoder.parameters()) / 1e6:.1f} M {what}")


if __name__ == "__main__":
    typer.run(main)
