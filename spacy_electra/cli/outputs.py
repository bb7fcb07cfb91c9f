"""Outputs that a command writes at its end: checked before the work, and printed if writing fails after all."""

import errno
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from spacy_electra.cli.errors import warn
from spacy_electra.data.atomic import write_file


def check_folder(folder: Path) -> None:
    """Raise OSError if `folder` cannot be created or written to."""
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    if not place.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(place))
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(place)) from None


def check_json(path: Path) -> None:
    """Create the folder of a file that is written last, so that no work is lost. Raises ValueError or OSError.

    The file itself is not changed. Anything but an ordinary file, such as a pipe, is not tested.
    """
    if path.is_dir():
        raise ValueError(f"--json {path} is a folder: give the path of a file.")
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_file():
        with path.open("ab"):
            pass
    elif not path.exists():
        check_folder(path.parent)


def write_json(path: Path, facts: dict[str, Any]) -> bool:
    """Write the facts. If that fails, print them with a warning and return False, so that the command exits with 1."""
    text = json.dumps(facts, indent=2)
    try:
        write_file(path, f"{text}\n".encode())
    except OSError as error:
        warn(f"{path} cannot be written ({error.strerror}). What it was to hold:\n{text}")
        return False
    return True
