"""Checksum files in the format of `sha256sum --check`: a hexadecimal digest and a file name a line.

They detect damage by a disk or a copy; a folder without one is not checked.
"""

from collections.abc import Sequence
from pathlib import Path

from spacy_electra.data.atomic import sha256_of


def write_checksums(path: Path, names: Sequence[str]) -> None:
    """Write the checksums of the files `names`, which lie in the folder of `path`, to `path`."""
    lines = [f"{sha256_of(path.with_name(name))}  {name}\n" for name in names]
    path.write_text("".join(lines), encoding="utf8", newline="\n")


def read_checksums(path: Path) -> dict[str, str]:
    """Digests by file name; empty if there is no file `path`."""
    if not path.is_file():
        return {}
    lines = path.read_text(encoding="utf8", errors="replace").splitlines()
    return {name: digest for digest, _, name in (line.partition("  ") for line in lines)}


def check_checksum(file: Path, path: Path) -> None:
    """Raise ValueError if `path` lists a checksum for `file` that differs from that of its content."""
    expected = read_checksums(path).get(file.name)
    if expected is None:
        return
    if (found := sha256_of(file)) != expected:
        raise ValueError(
            f"{file} was changed after it was written: its sha256 is {found[:12]}, {path.name} says {expected[:12]}. "
            f"Copy or make it again; where the change was meant, remove {path}."
        )
