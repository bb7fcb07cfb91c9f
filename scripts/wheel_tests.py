"""Run the tests against an installed wheel, from a copy of the project without the package's source.

Makes a wheel, an environment and the copy below build/installed; needs nothing but Python, git and a package registry.
Arguments behind `--` go to pytest.
Example: python scripts/wheel_tests.py --dependencies oldest -- tests/data
"""

import argparse
import os
import platform
import shutil
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE, KERNELS = "spacy_electra", "spacy-electra-kernels"
EXTRAS = "test,zstd"
ORIGIN = """
import sys
from pathlib import Path
import spacy_electra
place, wanted = Path(spacy_electra.__file__).resolve(), Path(sys.argv[1]).resolve()
if not place.is_relative_to(wanted):
    sys.exit(f"the tests would import {place}, expected the package below {wanted}: remove what names the other one.")
"""


def main(arguments: list[str]) -> int:
    """The exit status of pytest, or of the first command that fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dependencies", choices=INSTALLERS, default="pinned", help="Which versions: see CONTRIBUTING")
    parser.add_argument("--wheels", type=Path, help="Folder with wheels that are there already")
    parser.add_argument("pytest", nargs="*", help="Arguments of pytest")
    given = parser.parse_args(arguments)
    folder = ROOT / "build" / "installed" / f"{given.dependencies}-{sys.version_info.major}.{sys.version_info.minor}"
    tree = copy_tree(tracked_files(ROOT), ROOT, folder / "tree")
    python = make_environment(folder / "env")
    try:
        wheel = find_wheel(python, given.wheels.resolve() if given.wheels else None, folder / "wheel")
        INSTALLERS[given.dependencies](python, wheel)
        install_kernels(python, given.wheels.resolve() if given.wheels else None)
        check_origin(python, folder / "env", tree)
        run(python, "-m", "pytest", "-q", *given.pytest, cwd=tree, HF_HUB_OFFLINE="1")
    except subprocess.CalledProcessError as error:
        print(f"exit status {error.returncode}: {' '.join(map(str, error.cmd))}", file=sys.stderr)
        return error.returncode
    return 0


def run(*command: str | Path, cwd: Path = ROOT, **environment: str) -> None:
    """Run a command that inherits no PYTHONPATH, for it may name the source. Raises CalledProcessError."""
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | environment
    subprocess.run(command, cwd=cwd, env=variables, check=True)


def tracked_files(root: Path) -> list[str]:
    """All files of the project but those that git ignores, with / in their names."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout
    return [name for name in listed.split("\0") if (root / name).is_file()]


def copy_tree(names: list[str], root: Path, folder: Path) -> Path:
    """Copy files into a new `folder`, all but those of the package."""
    shutil.rmtree(folder, ignore_errors=True)
    for name in names:
        if not name.startswith(f"{PACKAGE}/"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(root / name, folder / name)
    return folder


def make_environment(folder: Path) -> Path:
    """The interpreter of an environment, which is made where it is not there yet."""
    python = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    if not python.exists():
        venv.create(folder, with_pip=True)
    return python


def find_wheel(python: Path, wheels: Path | None, folder: Path) -> Path:
    """The wheel in `wheels` that pip would take on this system, or a new one of the source."""
    shutil.rmtree(folder, ignore_errors=True)
    if wheels is None:
        run(python, "-m", "pip", "wheel", "-q", "--no-deps", "-w", folder, ROOT)
    else:
        search = ("--no-index", "--find-links", wheels, "--only-binary", ":all:")
        run(python, "-m", "pip", "download", "-q", "--no-deps", *search, "-d", folder, PACKAGE)
    (wheel,) = folder.glob(f"{PACKAGE}-*.whl")
    return wheel


def install_pinned(python: Path, wheel: Path) -> None:
    """What constraints.txt names; torch first, as in the Makefile."""
    pip = (python, "-m", "pip", "install", "-q", "-c", ROOT / "constraints.txt")
    run(*pip, "torch")
    run(*pip, "--force-reinstall", "--no-deps", wheel)
    run(*pip, f"{PACKAGE}[{EXTRAS}] @ {wheel.as_uri()}")


def install_newest(python: Path, wheel: Path) -> None:
    """The newest versions that setup.cfg allows."""
    pip = (python, "-m", "pip", "install", "-q", "--upgrade")
    run(*pip, "--force-reinstall", "--no-deps", wheel)
    run(*pip, "--upgrade-strategy", "eager", f"{PACKAGE}[{EXTRAS}] @ {wheel.as_uri()}")


def install_oldest(python: Path, wheel: Path) -> None:
    """The oldest versions that setup.cfg allows, and of what these need the newest."""
    run(python, "-m", "pip", "install", "-q", "uv")
    uv = (python, "-m", "uv", "pip", "install", "-q", "--python", python, "--resolution", "lowest-direct")
    run(*uv, "--reinstall-package", "spacy-electra", f"{PACKAGE}[{EXTRAS}] @ {wheel.as_uri()}")


INSTALLERS = {"pinned": install_pinned, "oldest": install_oldest, "newest": install_newest}


def install_kernels(python: Path, wheels: Path | None) -> None:
    """The C kernels from `wheels` or from the source, where they are for this system and can be compiled."""
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        return
    source = ("--no-index", "--find-links", wheels, KERNELS) if wheels else (ROOT / "kernels",)
    try:
        run(python, "-m", "pip", "install", "-q", "--force-reinstall", "--no-deps", *source)
    except subprocess.CalledProcessError:
        if wheels:
            raise
        print("no C kernels: they do not compile here, so PyTorch predicts in the tests", file=sys.stderr)


def check_origin(python: Path, environment: Path, tree: Path) -> None:
    """Raise CalledProcessError where the package is imported from elsewhere than the environment."""
    run(python, "-c", ORIGIN, environment, cwd=tree)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
