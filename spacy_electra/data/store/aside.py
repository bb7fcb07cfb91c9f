"""The store that a build under way takes the place of: put aside into `replaced/`, and back.

The caller holds the folder. The manifest leaves first and comes last, under a name of its own while the other files
move, so that a process that is killed amid them leaves a trace: where that name is found, the old store comes back.
"""

import shutil
from pathlib import Path

from spacy_electra.data.atomic import remove_files
from spacy_electra.data.atomic_folder import remove_partial
from spacy_electra.data.store.manifest import BUILDING, MANIFEST, REPLACED, STORE_FILES, TOKENIZER

ASIDE = f"{MANIFEST}.aside"


def put_aside(directory: Path) -> None:
    """Move the finished store in `directory` out of sight, in place of what was aside before."""
    replaced = directory / REPLACED
    shutil.rmtree(replaced, ignore_errors=True)
    replaced.mkdir()
    (directory / MANIFEST).rename(directory / ASIDE)
    for pattern in (*STORE_FILES, TOKENIZER):
        for path in directory.glob(pattern):
            path.rename(replaced / path.name)
    (directory / ASIDE).rename(replaced / MANIFEST)


def is_out_of_sight(directory: Path) -> bool:
    """Whether a store is aside that no build has begun to replace, as it has with its first whole shard."""
    if (directory / MANIFEST).exists():
        return False
    replaced = directory / REPLACED
    is_amid = (directory / ASIDE).exists() or (replaced / ASIDE).exists()
    return is_amid or ((replaced / MANIFEST).exists() and not (directory / BUILDING).exists())


def put_back(directory: Path) -> None:
    """Move such a store into sight again, in place of what a build has begun; nothing where there is none."""
    if not is_out_of_sight(directory):
        return
    replaced = directory / REPLACED
    if (replaced / MANIFEST).exists():
        remove_files(directory, STORE_FILES)
        remove_partial(directory)
        shutil.rmtree(directory / TOKENIZER, ignore_errors=True)
        (replaced / MANIFEST).rename(replaced / ASIDE)
    aside = (directory if (directory / ASIDE).exists() else replaced) / ASIDE
    for path in replaced.iterdir():
        if path != aside:
            path.rename(directory / path.name)
    aside.rename(directory / MANIFEST)
    shutil.rmtree(replaced)
