"""Remove what was made from other inputs, so that it is not gone on with: a store, a pretraining run.

Example: python scripts/clear.py corpus/software/pretrain training/software/pretrain
"""

import shutil
from pathlib import Path

import typer
from wasabi import msg

from spacy_electra.cli.errors import clear_errors

MADE_HERE = ("corpus", "training", "metrics", "packages")  # folders that hold nothing but what commands make


@clear_errors
def main(
    folders: list[Path] = typer.Argument(..., help="Folders inside corpus/, training/, metrics/ or packages/"),
) -> None:
    """Remove folders of the project that commands have made."""
    home = Path.cwd().resolve()
    for folder in folders:
        check_place(folder, home)
    for folder in folders:
        if folder.exists():
            shutil.rmtree(folder)
            msg.info(f"Removed {folder}: it was made from other inputs")


def check_place(folder: Path, home: Path) -> None:
    """Raise ValueError for a folder that may hold other things than what commands make."""
    path = folder.resolve()
    inside = path.relative_to(home).parts if path.is_relative_to(home) else ()
    if len(inside) < 2 or inside[0] not in MADE_HERE:
        raise ValueError(f"{folder} is not inside {', '.join(MADE_HERE)} of the project: nothing was removed.")


if __name__ == "__main__":
    typer.run(main)
