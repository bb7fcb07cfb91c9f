"""Kernels under sanitizers, in plain C on any processor: no byte beyond a shape, and no shape that cannot be."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROUNDS, SEEDS = 100, (1, 2, 3)
FLAGS = ["-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", "-fno-strict-aliasing"]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux" or shutil.which("gcc") is None, reason="no gcc on Linux"),
]


def compiled(source: Path, program: Path) -> None:
    """The intrinsics in `immintrin.h` here take the place of the compiler's."""
    libraries = ["-pthread", "-lm", "-Wno-psabi", f"-I{HERE}"]
    made = subprocess.run(["gcc", *FLAGS, "-o", program, source, *libraries], capture_output=True, text=True)
    assert made.returncode == 0, made.stderr


@pytest.fixture(scope="module")
def sanitizers(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("sanitizers")
    (folder / "nothing.c").write_text("int main(void) { return 0; }\n", encoding="utf8")
    try:
        compiled(folder / "nothing.c", folder / "nothing")
    except AssertionError as error:
        pytest.skip(f"gcc has no sanitizers here: {error}")


@pytest.mark.usefixtures("sanitizers")
def test_no_shape_reads_or_writes_beyond_its_memory(tmp_path: Path) -> None:
    program = tmp_path / "encoder"
    compiled(HERE / "fuzz_encoder.c", program)
    for seed in SEEDS:
        done = subprocess.run([program, str(ROUNDS), str(seed)], capture_output=True, text=True, timeout=600)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == f"{ROUNDS} rounds\n"
