"""An encoder of the same shape and vocabulary as a pretrained one, with the weights that pretraining starts from.

What fine-tuning reaches from these is what a pipeline is worth without pretraining.
Example: python scripts/random_weights.py training/software/pretrain/model-last/discriminator training/software/random
"""

from pathlib import Path
from typing import get_args

import typer
from wasabi import msg

from spacy_electra.cli.errors import check_name, clear_errors
from spacy_electra.model.huggingface import save_encoder
from spacy_electra.model.initialization import WithoutCorpus, initialize
from spacy_electra.model.starting import load_encoder


@clear_errors
def main(
    pretrained: Path = typer.Argument(..., help="ELECTRA folder whose shape and vocabulary are taken"),
    output: Path = typer.Argument(..., help="Folder for the random weights"),
    kind: str = typer.Option("local", help="Initialization, as in a pretraining config, of those that need no corpus"),
    seed: int = typer.Option(0, help="Seed of the weights"),
) -> None:
    """Write random weights as an `ElectraModel` folder."""
    check_name(kind, get_args(WithoutCorpus), what="initialization")
    encoder, tokenizer = load_encoder(str(pretrained))
    initialize(encoder, kind=kind, seed=seed)  # type: ignore[arg-type]
    save_encoder(encoder, tokenizer, output)
    msg.good(f"{output}: {sum(p.numel() for p in encoder.parameters()) / 1e6:.1f} M random weights, seed {seed}")


if __name__ == "__main__":
    typer.run(main)
