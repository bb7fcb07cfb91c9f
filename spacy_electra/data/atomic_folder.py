"""Replace the content of a folder as a whole: a process that is killed leaves the old content or the new.

A new folder is written under a partial name beside its place, synced and renamed. An existing folder may hold other
files, and cannot always be renamed (a mount, the working directory), so its entries are exchanged inside it:

.partial-new/      the content being written; the old content is untouched
.partial-decided/  the same, synced: the old entries move to `.old` in it, entry `last` first
.partial-placed/   all old entries have moved: the new ones are renamed into place, entry `last` last

If a process is killed after `.partial-decided/`, the next reader or writer finishes the exchange (`settle`). Before
that, the next writer removes the partial content.
"""

import json
import os
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager, nullcontext
from errno import EISDIR, ENOTDIR
from pathlib import Path

from spacy_electra.data.atomic import alone_in, sync

PARTIAL = ".partial-"  # begins all names of this module
NEW, DECIDED, PLACED = f"{PARTIAL}new", f"{PARTIAL}decided", f"{PARTIAL}placed"
OLD, ORDER = ".old", ".order"  # in the latter two


@contextmanager
def replaced_folder(
    folder: Path, *, last: str, gone: Collection[str] | None = None, is_held: bool = False
) -> Iterator[Path]:
    """A folder to write into, whose entries replace those of `folder` when the block ends; an error changes nothing.

    last: name of the entry that is removed first and placed last; readers need it, so they never see a mixture.
    gone: names that are removed with the old content although the new one lacks them; None for all. Other files stay.
    is_held: the caller holds `atomic.alone_in`; if False, it is held here, with its ValueError.
    Raises OSError if the folder cannot be written, before the block where possible.
    """
    with nullcontext() if is_held else alone_in(folder):
        _finish(folder)
        beside = folder.with_name(f"{PARTIAL}{folder.name}") if folder.name else None
        for left in (folder / NEW, beside):
            if left is not None and left.is_dir():
                shutil.rmtree(left)
        partial = folder / NEW if folder.exists() or beside is None else beside
        partial.mkdir(parents=not folder.exists())
        try:
            yield partial
            _sync_below(partial)
            if partial == beside:
                partial.rename(folder)
                sync(folder.absolute().parent)
            else:
                _decide(folder, last=last, gone=gone)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        _finish(folder)


def settle(folder: Path) -> None:
    """Finish the replacement of a folder's content that a killed process had decided; does nothing if there is none.

    Raises ValueError if another process is replacing the content, OSError if the folder cannot be written.
    """
    if _is_decided(folder):
        with alone_in(folder):
            _finish(folder)


def remove_partial(folder: Path) -> None:
    """Remove undecided content that killed processes left in `folder`. The caller holds the lock of the folder."""
    for left in folder.glob(f"{PARTIAL}*"):
        if left.is_file():
            left.unlink()
        elif left.name not in (DECIDED, PLACED):
            shutil.rmtree(left, ignore_errors=True)


def _is_decided(folder: Path) -> bool:
    return (folder / DECIDED).is_dir() or (folder / PLACED).is_dir()


def _decide(folder: Path, *, last: str, gone: Collection[str] | None) -> None:
    """Write down in which order entries come; from then on there is no way back."""
    new = sorted((path.name for path in (folder / NEW).iterdir()), key=lambda name: (name == last, name))
    there = sorted(path.name for path in folder.iterdir() if not path.name.startswith(PARTIAL))
    for name in set(new) & set(there):
        was, becomes = (folder / name).is_dir(), (folder / NEW / name).is_dir()
        if was != becomes:
            number = EISDIR if was else ENOTDIR
            raise OSError(number, os.strerror(number), str(folder / name))
    leaving = [name for name in there if name not in new and (gone is None or name in gone)]
    (folder / NEW / ORDER).write_text(json.dumps([*leaving, *new]), encoding="utf8")
    sync(folder / NEW / ORDER)
    sync(folder / NEW)
    (folder / NEW).rename(folder / DECIDED)
    sync(folder)


def _finish(folder: Path) -> None:
    """Take each step that is left; any of them may be the one at which an earlier process was killed."""
    if not _is_decided(folder):
        return
    decided, placed = folder / DECIDED, folder / PLACED
    if decided.is_dir():
        (decided / OLD).mkdir(exist_ok=True)
        for name in reversed(_order_in(decided)):
            if os.path.lexists(folder / name):
                (folder / name).rename(decided / OLD / name)
        sync(folder)
        decided.rename(placed)
    for name in _order_in(placed):
        if os.path.lexists(placed / name):
            (placed / name).rename(folder / name)
    sync(folder)
    shutil.rmtree(placed)


def _order_in(folder: Path) -> list[str]:
    path = folder / ORDER
    if not path.exists():  # all have been placed: the folder's removal has begun
        return []
    names: list[str] = json.loads(path.read_text(encoding="utf8"))
    return names


def _sync_below(folder: Path) -> None:
    for path in folder.rglob("*"):
        sync(path)
    sync(folder)
