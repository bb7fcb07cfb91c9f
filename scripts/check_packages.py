"""Check an sdist and wheels before they are published: files, kernels, names, and that no weights came along.

Example: python scripts/check_packages.py dist
"""

import tarfile
import zipfile
from collections.abc import Iterable
from pathlib import Path

import typer
from packaging.utils import parse_sdist_filename, parse_wheel_filename
from wasabi import msg

import spacy_electra
from spacy_electra.cli.errors import clear_errors

NAME = "spacy_electra"
LICENSES = ("LICENSE", "NOTICE")
IN_WHEELS = ("spacy_electra/py.typed", "spacy_electra/cli/templates/pretrain.cfg")
IN_SDIST = (
    *LICENSES,
    "README.md",
    "CHANGELOG.md",
    "CITATION.cff",
    "setup.py",
    "spacy_electra/model/kernels/encoder.c",
    "spacy_electra/model/kernels/layer.h",
)
KERNELS = {"spacy_electra/model/_kernels_encoder.so"}
WEIGHTS = (".safetensors", ".bin", ".onnx")


@clear_errors
def main(folder: Path = typer.Argument(..., help="Folder with one sdist and its wheels")) -> None:
    """Print each package that is as it should be; fail at the first that is not."""
    for path in find_packages(folder):
        (check_wheel if path.suffix == ".whl" else check_sdist)(path)
        msg.good(f"{path.name} ({path.stat().st_size / 1e6:.1f} MB)")


def find_packages(folder: Path) -> list[Path]:
    """The sdist and the wheels of this version. Raises ValueError where the one or the other is missing."""
    version = spacy_electra.__version__
    packages = sorted([*folder.glob(f"{NAME}-{version}.tar.gz"), *folder.glob(f"{NAME}-{version}-*.whl")])
    found = ", ".join(path.name for path in folder.glob(f"{NAME}-*")) or "nothing"
    if len({path.suffix for path in packages}) < 2:
        raise ValueError(
            f"{folder} holds {found}, expected the sdist and a wheel of version {version}: `make wheel` makes both."
        )
    return packages


def check_wheel(path: Path) -> None:
    """Raise ValueError for a wheel that a registry would refuse, or in which something is missing or too much."""
    with zipfile.ZipFile(path) as packed:
        names = packed.namelist()
    _, version, _, tags = parse_wheel_filename(path.name)
    expected = [*IN_WHEELS, *(f"{NAME}-{version}.dist-info/licenses/{name}" for name in LICENSES)]
    _check_files(path, names, expected)
    for tag in tags:
        if tag.platform.startswith("linux_"):
            raise ValueError(
                f"{path.name} is for {tag.platform}, which registries refuse, expected manylinux: "
                "`make check-wheel` renames it by auditwheel."
            )
        needed = KERNELS if tag.platform != "any" else set()
        if found := KERNELS.intersection(names) ^ needed:
            raise ValueError(
                f"{path.name} for {tag.platform} has kernels that it should not have, or lacks some: "
                f"{', '.join(sorted(found))}. Build it where gcc 10 or newer is found."
            )


def check_sdist(path: Path) -> None:
    """Raise ValueError for an sdist in which something is missing or too much."""
    top = f"{NAME}-{parse_sdist_filename(path.name)[1]}/"
    with tarfile.open(path) as packed:
        names = [name.removeprefix(top) for name in packed.getnames()]
    _check_files(path, names, IN_SDIST)


def _check_files(path: Path, names: Iterable[str], expected: Iterable[str]) -> None:
    if missing := sorted(set(expected).difference(names)):
        raise ValueError(f"{path.name} lacks {', '.join(missing)}: see MANIFEST.in and setup.cfg.")
    if weights := sorted(name for name in names if name.endswith(WEIGHTS)):
        raise ValueError(f"{path.name} holds weights, which have a licence of their own: {', '.join(weights)}.")


if __name__ == "__main__":
    typer.run(main)
