"""Train floret vectors for a number of processor minutes; `spacy init vectors --mode floret` reads the table.

As many epochs as the minutes allow, after a look at how fast the first part of the text is read; where they do not
allow one, the text is cut. Settings that are not asked for are those that floret's description gives for spaCy.
Example: python scripts/floret_vectors.py corpus/text/tokens.txt training/vectors.floret --minutes 10
"""

import time
from itertools import islice
from pathlib import Path
from types import ModuleType

import typer
from wasabi import msg

from spacy_electra.cli.errors import clear_errors

LOOK_LINES = 4000  # spans of the text that are read to see how fast it goes
SETTINGS = {"model": "cbow", "mode": "floret", "hashCount": 2, "minn": 3, "maxn": 6, "thread": 1, "verbose": 0}


@clear_errors
def main(
    tokens: Path = typer.Argument(..., help="File with tokens apart by spaces, a span a line"),
    output: Path = typer.Argument(..., help="File for the table of vectors"),
    minutes: float = typer.Option(..., help="Processor minutes, all in all"),
    dim: int = typer.Option(300, help="Numbers of a vector"),
    bucket: int = typer.Option(50_000, help="Rows of the table"),
    most_epochs: int = typer.Option(50, help="Epochs at most, however many the minutes allow"),
) -> None:
    """Train as long as the minutes allow."""
    floret = import_floret()
    if not tokens.is_file():
        raise FileNotFoundError(f"there is no file {tokens}: write it with split_text.py.")
    part = output.with_suffix(".part.txt")
    lines = count_lines(tokens)
    write_part(tokens, part, lines=LOOK_LINES)
    seconds = train(floret, part, output, epochs=1, dim=dim, bucket=bucket)
    affordable = epochs_left(minutes * 60 - time.process_time(), seconds * lines / min(lines, LOOK_LINES))
    if affordable >= 1.0:
        epochs, read = min(most_epochs, int(affordable)), lines
        train(floret, tokens, output, epochs=epochs, dim=dim, bucket=bucket)
    elif (read := int(lines * affordable)) > LOOK_LINES:
        epochs = 1
        write_part(tokens, part, lines=read)
        train(floret, part, output, epochs=1, dim=dim, bucket=bucket)
    else:  # what was read to see how fast it goes is more than the minutes allow
        epochs, read = 1, min(lines, LOOK_LINES)
    part.unlink()
    told = f"{epochs} epoch{'s' * (epochs > 1)} of {read:,} of {lines:,} spans"
    msg.good(f"{output}: {told}, {time.process_time() / 60:.1f} CPU-minutes")


def import_floret() -> ModuleType:
    """The package floret. Raises ImportError that says how to install it."""
    try:
        import floret
    except ImportError as error:
        raise ImportError(
            'the rung cnn-floret needs the package floret: pip install -e ".[ladder]" in a checkout, or leave the rung '
            "out of --rungs. It has wheels for Python 3.10 to 3.12; on later ones pip compiles it, with a C++ compiler."
        ) from error
    module: ModuleType = floret
    return module


def count_lines(path: Path) -> int:
    """Lines of a file. Raises ValueError where it is empty."""
    with path.open("rb") as file:
        lines = sum(1 for _ in file)
    if not lines:
        raise ValueError(f"{path} is empty, expected tokens apart by spaces: give text to learn from.")
    return lines


def write_part(source: Path, target: Path, *, lines: int) -> None:
    """The first lines of a file as a file of their own."""
    with source.open("rb") as read, target.open("wb") as write:
        write.writelines(islice(read, lines))


def epochs_left(seconds: float, seconds_an_epoch: float) -> float:
    """How many epochs, or which share of one, are affordable."""
    return max(0.0, seconds) / max(seconds_an_epoch, 1e-9)


def train(floret: ModuleType, tokens: Path, output: Path, *, epochs: int, dim: int, bucket: int) -> float:
    """Train on a file and write the table; the processor seconds that took."""
    before = time.process_time()
    model = floret.train_unsupervised(str(tokens), epoch=epochs, dim=dim, bucket=bucket, **SETTINGS)
    model.save_floret_vectors(str(output))
    return time.process_time() - before


if __name__ == "__main__":
    typer.run(main)
