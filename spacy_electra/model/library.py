"""The kernels in C (`kernels/`): whether they were compiled, what they need, and how to call them.

They are compiled when the package is installed, on Linux on x86-64 and where there is a compiler. What they do torch
does as well, only slower.
"""

import logging
import sysconfig
from ctypes import CDLL, c_int64
from functools import cache
from pathlib import Path

import torch

from spacy_electra.model.capability import has_amx, has_avx512_bf16, has_vnni

logger = logging.getLogger("spacy_electra")

PANEL = 64  # columns that the kernels sum at once
LANES = 16  # numbers of a register
INTERFACE = 1  # changes with the structures and with how weights are packed
FOLDER = Path(__file__).parent


def runs_natively(device: torch.device, *, in_bytes: bool) -> bool:
    """True where the kernels were compiled and the processor has what they use.

    Bytes need AVX512-VNNI, everything else AVX512-BF16 as well; products of bfloat16 are left to oneDNN where the
    processor has AMX, which these kernels do not use.
    """
    is_able = device.type == "cpu" and has_vnni() and (in_bytes or (has_avx512_bf16() and not has_amx()))
    return is_able and _loaded() is not None


def is_cut(*, width: int, feed_forward: int, heads: int) -> bool:
    """True for blocks that fill the kernels' registers."""
    return not (width % PANEL or feed_forward % PANEL or width // heads % LANES)


def library() -> CDLL:
    """To be asked for only where something runs natively."""
    loaded = _loaded()
    assert loaded is not None
    return loaded


@cache
def _loaded() -> CDLL | None:
    """None where the kernels were not compiled, or for another version or system than this."""
    kind = "bf16" if has_avx512_bf16() else "vnni"
    try:
        loaded = CDLL(str(FOLDER / f"_kernels_{kind}{sysconfig.get_config_var('EXT_SUFFIX')}"))
        loaded.spacy_electra_kept_bytes.restype = c_int64
        if loaded.spacy_electra_interface() == INTERFACE:
            return loaded
        reason = "they were compiled from another version"
    except (OSError, AttributeError) as error:
        reason = str(error)
    logger.info(
        "This processor could run this package's kernels, which cannot be loaded: %s. torch does the same more slowly. "
        "Where there is a C compiler (gcc), installing the package again compiles them.",
        reason,
    )
    return None
