"""The set-up of `make` goes on without the C kernels, and says in one line why they are not there."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "install_kernels.sh"
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no sh")


@pytest.mark.parametrize(
    "variables", [{"CC": "no-such-compiler"}, {"CC": "sh", "PYTHON": "false"}], ids=["no compiler", "old compiler"]
)
def test_what_keeps_kernels_from_being_compiled_is_told_in_one_line(tmp_path: Path, variables: dict[str, str]) -> None:
    environment = os.environ | {"PYTHON": sys.executable} | variables
    done = subprocess.run(["sh", SCRIPT], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    (line,) = done.stdout.splitlines()
    assert line.startswith("no C kernels: ")
