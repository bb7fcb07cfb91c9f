"""Say before spaCy's own commands start what they need for `--gpu-id`: by themselves they end in a traceback.

Loaded at every `python -m spacy`, after spaCy, so it looks at what thinc has found out already.
"""

import platform
import sys
from collections.abc import Sequence
from pathlib import Path

from thinc import compat
from wasabi.printer import Printer

OURS = ("electra", "project")  # these need no CuPy, or are no single command
OPTIONS = ("--gpu-id", "-g")


def refuse_gpu_that_spacy_cannot_use(command_line: Sequence[str]) -> None:
    """End the program with one message where spaCy's own program is asked for a GPU that it could not use."""
    asked = gpu_id_of(command_line[1:]) if is_spacy(command_line[0]) else None
    problem = missing_for_gpu() if asked is not None else None
    if problem is not None:
        print(Printer(no_print=True).fail(f"--gpu-id {asked} asks for a GPU, but {problem}"), file=sys.stderr)
        raise SystemExit(1)


def is_spacy(program: str) -> bool:
    """Whether this is `python -m spacy` or the script `spacy`, not a program of somebody else."""
    path = Path(program)
    return path.stem == "spacy" or (path.stem == "__main__" and path.parent.name == "spacy")


def gpu_id_of(arguments: Sequence[str]) -> int | None:
    """The number behind --gpu-id; None where there is none, or for commands that are not spaCy's own."""
    if not arguments or arguments[0] in OURS:
        return None
    for word, following in zip(arguments, [*arguments[1:], ""], strict=True):
        option, equals, value = word.partition("=")
        if option in OPTIONS and (text := value if equals else following).isdigit():
            return int(text)
    return None


def missing_for_gpu() -> str | None:
    """What spaCy lacks for computing on a graphics card, and what to do; None where nothing is missing."""
    is_apple = platform.system() == "Darwin"
    if not is_apple and not compat.has_cupy:
        return (
            "spaCy computes on NVIDIA cards with CuPy, which cannot be imported: "
            "pip install cupy-cuda12x (pretraining alone needs no CuPy), or leave the option out."
        )
    if is_apple and not compat.has_torch_mps:
        return "the installed torch was built without MPS: install another build, or leave the option out."
    if not (compat.has_cupy_gpu or compat.has_torch_mps_gpu):
        return "this machine has none that spaCy sees: leave the option out to compute on the CPU."
    return None
