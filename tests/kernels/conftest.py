"""The kernels compiled for tests: as they are or with the intrinsics in plain C, and their scalar twins."""

import shutil
import subprocess
import sys
from ctypes import CDLL
from pathlib import Path

import pytest
import torch

from spacy_electra.model.inference.backend import machine_of

HERE = Path(__file__).parent
SOURCES = Path(__file__).parents[2] / "kernels" / "src"
SETS = [f"-m{name}" for name in ("avx512f", "avx512bw", "avx512vl", "avx512dq", "fma", "avx512vnni")]
FLAGS = ["-fno-strict-aliasing", "-pthread"]


def compile_c(compiler: str, source: Path, to: Path, *flags: str) -> Path:
    command = [compiler, *FLAGS, *flags, "-o", str(to), str(source), "-lm"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return to


@pytest.fixture(scope="session")
def compiler() -> str:
    found = None if sys.platform == "win32" else shutil.which("gcc") or shutil.which("cc")
    if found is None:
        pytest.skip("no compiler")
    return found


@pytest.fixture(scope="session")
def twin_path(compiler: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scalar twin of the library, on any processor."""
    to = tmp_path_factory.mktemp("twin") / "twin.so"
    return compile_c(compiler, HERE / "exports.c", to, "-O2", "-ffp-contract=off", "-DSCALAR", "-shared", "-fPIC")


@pytest.fixture(scope="session")
def kernels_path(compiler: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The kernels, with the intrinsics of `immintrin.h` here where the processor has not got them."""
    to = tmp_path_factory.mktemp("kernels") / "kernels.so"
    here = ["-O3", *SETS] if machine_of(torch.device("cpu")).vnni else ["-O1", "-Wno-psabi", f"-I{HERE}"]
    return compile_c(compiler, HERE / "exports.c", to, *here, "-shared", "-fPIC")


@pytest.fixture(scope="session")
def twin(twin_path: Path) -> CDLL:
    return CDLL(str(twin_path))


@pytest.fixture(scope="session")
def kernels(kernels_path: Path) -> CDLL:
    return CDLL(str(kernels_path))
