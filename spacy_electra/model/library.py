"""The kernels in C (`kernels/`): whether they were compiled, what they need, and how to call them.

They are compiled when the package is installed, on Linux on x86-64 and where there is a compiler. What they do torch
does as well, only slower.
"""

import logging
import sys
import sysconfig
from ctypes import CDLL, c_int64
from functools import cache
from pathlib import Path

import torch

from spacy_electra.model.capability import has_amx, has_avx512_bf16, has_vnni

logger = logging.getLogger("spacy_electra")

PANEL = 64  # columns that the kernels sum at once
LANES = 16  # numbers of a register
INTERFACE = 2  # to be raised here and in encoder.c with every change of a structure or of how weights are packed
FOLDER = Path(__file__).parent


def runs_natively(device: torch.device, *, in_bytes: bool) -> bool:
    """True where the kernels were compiled and the processor has what they use.

    Bytes need AVX512-VNNI, everything else AVX512-BF16 as well; products of bfloat16 are left to oneDNN where the
    processor has AMX, which these kernels do not use.
    """
    if device.type != "cpu" or not has_vnni():
        return False
    return _best() is not None if in_bytes else has_avx512_bf16() and not has_amx() and _loaded("bf16") is not None


def is_cut(*, width: int, feed_forward: int, heads: int) -> bool:
    """True for blocks that fill the kernels' registers."""
    return not (width % PANEL or feed_forward % PANEL or width // heads % LANES)


def library() -> CDLL:
    """To be asked for only where something runs natively."""
    best = _best()
    assert best is not None
    return best


def _best() -> CDLL | None:
    """The build that uses most of what the processor has; an old compiler makes only the one for bytes."""
    return (_loaded("bf16") if has_avx512_bf16() else None) or _loaded("vnni")


@cache
def _loaded(kind: str) -> CDLL | None:
    """One build; None where it was not compiled, or for another version or system than this."""
    try:
        loaded = CDLL(str(FOLDER / f"_kernels_{kind}{sysconfig.get_config_var('EXT_SUFFIX')}"))
        loaded.spacy_electra_kept_bytes.restype = c_int64
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
