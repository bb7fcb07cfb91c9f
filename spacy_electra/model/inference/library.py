"""Load the library of the package spacy-electra-kernels: where it is, its structures, its status codes.

The structures mirror those of `kernels/src/abi.h`. A library of another ABI version is refused when it is loaded.
"""

import importlib
import logging
import platform
import sys
from ctypes import CDLL, POINTER, Structure, c_float, c_int64, c_void_p, sizeof
from functools import cache
from pathlib import Path

logger = logging.getLogger("spacy_electra")

PACKAGE = "spacy_electra_kernels"
HAS_WHEELS = (sys.platform, platform.machine()) == ("linux", "x86_64")
ABI_VERSION = 5  # to be raised here and in abi.h with every change of a structure or of how weights are packed
OK, NO_MEMORY, INVALID_ARGUMENT = 0, 1, 2  # the Status of abi.h


class CLinear(Structure):
    _fields_ = (
        *((name, c_void_p) for name in ("weights", "scales", "weight_sums", "bias")),
        *((name, c_int64) for name in ("in_features", "out_features", "precision")),
    )


class CLayerNorm(Structure):
    _fields_ = (("gamma", c_void_p), ("beta", c_void_p), ("eps", c_float))


class CLayer(Structure):
    _fields_ = (
        *((name, CLinear) for name in ("qkv", "output", "up", "down")),
        *((name, CLayerNorm) for name in ("norm1", "norm2")),
    )


class CEncoder(Structure):
    _fields_ = (
        ("word_embeddings", c_void_p),
        ("position_embeddings", c_void_p),
        ("embedding_norm", CLayerNorm),
        ("embedding_size", c_int64),
        ("projection", CLinear),
        ("layers", POINTER(CLayer)),
        *((name, c_int64) for name in ("num_layers", "hidden_size", "num_heads", "vocab_size", "max_positions")),
    )


class CBatch(Structure):
    _fields_ = (
        *((name, c_void_p) for name in ("input_ids", "position_ids", "output_rows", "cu_seqlens")),
        *((name, c_int64) for name in ("num_sequences", "num_tokens", "num_outputs")),
        ("out", c_void_p),
    )


STRUCTURES = (CLinear, CLayerNorm, CLayer, CEncoder, CBatch)


def library() -> CDLL:
    """The loaded kernels. Call only if `load_error` is None."""
    loaded = _load()
    assert isinstance(loaded, CDLL), loaded
    return loaded


def load_error() -> str | None:
    """The reason why the kernels cannot be loaded; None if they can."""
    loaded = _load()
    return None if isinstance(loaded, CDLL) else loaded


def check_status(status: int, *, work: str) -> None:
    """Raise MemoryError or ValueError if a call of the kernels failed.

    work: what it was to do, for the message.
    """
    if status == NO_MEMORY:
        raise MemoryError(f"can't allocate memory for {work}: shorter windows or fewer threads need less.")
    if status != OK:
        raise ValueError(f"the kernels refuse {work}: its numbers are out of range, or do not fit each other.")


def find_library() -> Path:
    """Path of the library in the installed package. Raises ImportError without the package."""
    return Path(importlib.import_module(PACKAGE).LIBRARY)


@cache
def _load() -> CDLL | str:
    """The library, or why there is none."""
    try:
        return open_library(find_library())
    except ImportError as error:
        reason = "the package spacy-electra-kernels is not installed" if error.name == PACKAGE else str(error)
    except OSError as error:
        reason = str(error)
    if not HAS_WHEELS:
        return "they are for Linux on x86-64"
    logger.info(
        "This processor could run the C kernels, which cannot be loaded: %s. PyTorch does the same more slowly. "
        "pip install spacy-electra[kernels] installs them.",
        reason,
    )
    return reason


def open_library(path: Path) -> CDLL:
    """Load a library. Raises OSError if the system cannot load it, ImportError for another ABI version."""
    loaded = CDLL(str(path))
    version = loaded.spacy_electra_abi_version() if hasattr(loaded, "spacy_electra_abi_version") else None
    if version != ABI_VERSION:
        raise ImportError(
            f"{path.name} has ABI version {version}, but this version of spacy-electra needs {ABI_VERSION}: "
            "install both again"
        )
    sizes, expected = (c_int64 * len(STRUCTURES))(), [sizeof(structure) for structure in STRUCTURES]
    loaded.spacy_electra_struct_sizes(sizes)
    if list(sizes) != expected:
        raise ImportError(f"{path.name} has structures of {list(sizes)} bytes, but expected {expected}")
    return loaded
