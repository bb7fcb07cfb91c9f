"""Move a store that is being replaced into `replaced/`, and back if the new build fails.

The caller holds the lock of the folder. The manifest is moved first and restored last, and has another name in
between. After a kill that name marks an unfinished move, and the old store is restored.
"""

import shutil
from pathlib import Path

from spacy_electra.data.atomic import remove_files
from spacy_electra.data.atomic_folder import remove_partial
from spacy_electra.data.store.manifest import BUILDING, MANIFEST, REPLACED, STORE_FILES, TOKENIZER

ASIDE = f"{MANIFEST}.aside"


def put_aside(directory: Path) -> None:
    """Move the finished store in `directory` into `replaced/`, in place of an earlier one there."""
    replaced = directory / REPLACED
    shutil.rmtree(replaced, ignore_errors=True)
    replaced.mkdir()
    (directory / MANIFEST).rename(directory / ASIDE)
    for pattern in (*STORE_FILES, TOKENIZER):
        for path in directory.glob(pattern):
            path.rename(replaced / path.name)
    (directory / ASIDE).rename(replaced / MANIFEST)


def is_out_of_sight(directory: Path) -> bool:
    """Whether `replaced/` holds a store of which the new build has not finished the first shard."""
    if (directory / MANIFEST).exists():
        return False
    replaced = directory / REPLACED
    is_amid = (directory / ASIDE).exists() or (replaced / ASIDE).exists()
    return is_amid or ((replaced / MANIFEST).exists() and not (directory / BUILDING).exists())


def put_back(directory: Path) -> None:
    """Restore a store that `is_out_of_sight`, in place of what the new build wrote; does nothing if there is none."""
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
