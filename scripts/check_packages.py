"""Check sdists and wheels before they are published: files, tags, the compiled library, and that no weights came along.

Example: python scripts/check_packages.py dist
"""

import re
import tarfile
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import typer
from packaging.utils import parse_sdist_filename, parse_wheel_filename
from wasabi import msg

import spacy_electra
from spacy_electra.cli.errors import clear_errors

ROOT = Path(__file__).parents[1]
WEIGHTS = (".safetensors", ".bin", ".onnx")
COMPILED = (".so", ".dylib", ".dll", ".pyd")


@dataclass(frozen=True)
class Distribution:
    """What the packages of one project hold."""

    name: str  # in the names of its files
    licenses: tuple[str, ...]
    in_wheels: tuple[str, ...]
    in_sdist: tuple[str, ...]
    library: str | None = None  # that its wheel has; without one the wheel is for all systems


PACKAGE = Distribution(
    name="spacy_electra",
    licenses=("LICENSE", "NOTICE"),
    in_wheels=("spacy_electra/py.typed", "spacy_electra/cli/templates/pretrain.cfg"),
    in_sdist=("README.md", "CHANGELOG.md", "CITATION.cff"),
)
KERNELS = Distribution(
    name="spacy_electra_kernels",
    licenses=("LICENSE",),
    in_wheels=("spacy_electra_kernels/__init__.py", "spacy_electra_kernels/py.typed"),
    in_sdist=("README.md", "setup.py", "src/encoder.c", "src/abi.h", "src/avx512/gemm.h", "src/scalar/gemm.h"),
    library="spacy_electra_kernels/libspacy_electra_kernels.so",
)
DISTRIBUTIONS = {distribution.name.replace("_", "-"): distribution for distribution in (PACKAGE, KERNELS)}


@clear_errors
def main(folder: Path = typer.Argument(..., help="Folder with the sdists and wheels of both projects")) -> None:
    """Print each package that is as it should be; fail at the first that is not."""
    for path in [*find_packages(folder, PACKAGE), *find_packages(folder, KERNELS)]:
        (check_wheel if path.suffix == ".whl" else check_sdist)(path)
        msg.good(f"{path.name} ({path.stat().st_size / 1e6:.1f} MB)")


def version_of(distribution: Distribution) -> str:
    """The version in the source."""
    if distribution is PACKAGE:
        return spacy_electra.__version__
    source = (ROOT / "kernels" / KERNELS.name / "__init__.py").read_text(encoding="utf8")
    (version,) = re.findall(r'^__version__ = "(.+)"$', source, flags=re.MULTILINE)
    return str(version)


def find_packages(folder: Path, distribution: Distribution) -> list[Path]:
    """The sdist and the wheels of this version. Raises ValueError where the one or the other is missing."""
    name, version = distribution.name, version_of(distribution)
    packages = sorted([*folder.glob(f"{name}-{version}.tar.gz"), *folder.glob(f"{name}-{version}-*.whl")])
    found = ", ".join(path.name for path in folder.glob(f"{name}-*")) or f"nothing of {name}"
    if len({path.suffix for path in packages}) < 2:
        raise ValueError(
            f"{folder} holds {found}, expected the sdist and a wheel of version {version}: `make wheel` makes both."
        )
    return packages


def check_wheel(path: Path) -> None:
    """Raise ValueError for a wheel that a registry would refuse, or in which something is missing or too much."""
    with zipfile.ZipFile(path) as packed:
        names = packed.namelist()
    project, version, _, tags = parse_wheel_filename(path.name)
    distribution = DISTRIBUTIONS[project]
    metadata = f"{distribution.name}-{version}.dist-info"
    _check_files(path, names, [*distribution.in_wheels, *(f"{metadata}/licenses/{x}" for x in distribution.licenses)])
    if {(tag.interpreter, tag.abi) for tag in tags} != {("py3", "none")}:
        raise ValueError(f"{path.name} is for some versions of Python alone, expected py3-none.")
    for platform in (tag.platform for tag in tags):
        if platform.startswith("linux_"):
            raise ValueError(
                f"{path.name} is for {platform}, which registries refuse, expected manylinux: "
                "`make check-wheel` renames it by auditwheel."
            )
        if (platform == "any") != (distribution.library is None):
            raise ValueError(f"{path.name} is for {platform}: only a wheel without a library is for any system.")
    needed = {distribution.library} - {None}
    if wrong := needed ^ {name for name in names if name.endswith(COMPILED)}:
        raise ValueError(f"{path.name} lacks a library, or has one too many: {', '.join(sorted(map(str, wrong)))}.")


def check_sdist(path: Path) -> None:
    """Raise ValueError for an sdist in which something is missing or too much."""
    project, version = parse_sdist_filename(path.name)
    distribution = DISTRIBUTIONS[project]
    with tarfile.open(path) as packed:
        names = [name.removeprefix(f"{distribution.name}-{version}/") for name in packed.getnames()]
    _check_files(path, names, [*distribution.licenses, *distribution.in_sdist])


def _check_files(path: Path, names: Iterable[str], expected: Iterable[str]) -> None:
    if missing := sorted(set(expected).difference(names)):
        raise ValueError(f"{path.name} lacks {', '.join(missing)}: see MANIFEST.in and setup.cfg.")
    if weights := sorted(name for name in names if name.endswith(WEIGHTS)):
        raise ValueError(f"{path.name} holds weights, which have a licence of their own: {', '.join(weights)}.")


if __name__ == "__main__":
    typer.run(main)
