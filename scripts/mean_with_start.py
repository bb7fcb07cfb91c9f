"""The mean of a start and of what pretraining on one's own text made of it, which keeps what the start knew.

Example: python scripts/mean_with_start.py training/pretrain training/adapted --start assets/electra-en
"""

import shutil
from pathlib import Path

import typer
from wasabi import msg

from spacy_electra.cli.average import average_of
from spacy_electra.cli.errors import clear_errors
from spacy_electra.cli.halves import read_halves, write_halves
from spacy_electra.cli.runs import model_folder
from spacy_electra.data.tokenizer.difference import cut_alike


@clear_errors
def main(
    pretrained: Path = typer.Argument(..., help="Folder of the run"),
    output: Path = typer.Argument(..., help="Folder for the mean, with discriminator/ and generator/"),
    start: str = typer.Option("null", help="What the run started from; null where it was nothing"),
) -> None:
    """Write the mean, or the run's own weights where there is nothing to average them with."""
    shutil.rmtree(output, ignore_errors=True)
    run = read_halves(model_folder(str(pretrained)))
    if start == "null":
        write_halves(run, output)
        msg.info(f"{output}: the weights of {pretrained}, which started from nothing")
        return
    first = read_halves(model_folder(start))
    if not cut_alike(first.tokenizer, run.tokenizer):
        first = first.with_tokenizer(run.tokenizer)
    write_halves(average_of([first, run], [1.0, 1.0]), output)
    msg.good(f"{output}: the mean of {start} and {pretrained}")


if __name__ == "__main__":
    typer.run(main)
