"""Checksums of files, in a file beside them that `sha256sum --check` reads: a hexadecimal digest and a name a line.

They are for bytes that a disk or a copy has changed; a folder without them is not checked.
"""

from collections.abc import Sequence
from pathlib import Path

from spacy_electra.data.atomic import sha256_of


def write_checksums(path: Path, names: Sequence[str]) -> None:
    """Write those of the files `names`, which lie beside `path`."""
    lines = [f"{sha256_of(path.with_name(name))}  {name}\n" for name in names]
    path.write_text("".join(lines), encoding="utf8", newline="\n")


def read_checksums(path: Path) -> dict[str, str]:
    """Digests by the names of files; none where there is no file `path`."""
    if not path.is_file():
        return {}
    lines = path.read_text(encoding="utf8", errors="replace").splitlines()
    return {name: digest for digest, _, name in (line.partition("  ") for line in lines)}


def check_checksum(file: Path, path: Path) -> None:
    """Raise ValueError where `path` has a checksum of `file` that is not its own."""
    expected = read_checksums(path).get(file.name)
    if expected is None:
        return
    if (found := sha256_of(file)) != expected:
        raise ValueError(
            f"{file} was changed after it was written: its sha256 is {found[:12]}, {path.name} says {expected[:12]}. "
            f"Copy or make it again; where the change was meant, remove {path}."
        )
