"""The kernels in C (`kernels/`): whether they were compiled, what they need, and how to call them.

They are compiled when the package is installed, on Linux on x86-64 and where there is a compiler. What they do torch
does as well, only slower.
"""

import logging
import sys
from ctypes import CDLL
from functools import cache
from pathlib import Path

import torch

from spacy_electra.model.capability import has_amx, has_vnni

logger = logging.getLogger("spacy_electra")

PANEL = 64  # columns that the kernels sum at once
LANES = 16  # numbers of a register
INTERFACE = 4  # to be raised here and in products.h with every change of a structure or of how weights are packed
DONE, NO_MEMORY, REFUSED = 0, 1, 2  # what a call answers, as checks.h has it
FOLDER = Path(__file__).parent


def predicts_in_kernels(device: torch.device, *, in_bytes: bool) -> bool:
    """True where the kernels of predictions were compiled and the processor has what they use, AVX512-VNNI.

    Products of 16 bits are left to oneDNN where the processor has AMX, which these kernels do not use.
    """
    can_run = device.type == "cpu" and has_vnni() and (in_bytes or not has_amx())
    return can_run and _loaded("encoder") is not None


def is_cut(*, width: int, feed_forward: int, heads: int) -> bool:
    """True for blocks that fill the kernels' registers."""
    return not (width % PANEL or feed_forward % PANEL or width // heads % LANES)


def library(name: str) -> CDLL:
    """The kernels of this name, where they run."""
    loaded = _loaded(name)
    assert loaded is not None
    return loaded


def check_answer(answer: int, *, work: str) -> None:
    """Raise MemoryError or ValueError where a call of the kernels did no work. work: what it was to do."""
    if answer == NO_MEMORY:
        raise MemoryError(f"can't allocate memory for {work}: shorter windows or fewer threads need less.")
    if answer != DONE:
        raise ValueError(f"the kernels refuse {work}: its numbers are out of range, or do not fit each other.")


@cache
def _loaded(name: str) -> CDLL | None:
    """None for what was not compiled, or for another version or system than this."""
    try:
        loaded = CDLL(str(FOLDER / f"_kernels_{name}.so"))
        if loaded.spacy_electra_interface() == INTERFACE:
            return loaded
        reason = "they were compiled from another version"
    except (OSError, AttributeError) as error:
        reason = str(error)
    if sys.platform == "linux":
        logger.info(
            "This processor could run this package's kernels, which cannot be loaded: %s. torch does the same more "
            "slowly. Where there is a C compiler (gcc 10 or newer), installing the package again compiles them.",
            reason,
        )
    return None
