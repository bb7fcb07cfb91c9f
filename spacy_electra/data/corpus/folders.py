"""List the files of a corpus folder, without hidden files and without those of token stores and models."""

import glob
import logging
import os
from collections.abc import Collection

from spacy_electra.data.store.manifest import BUILDING, MANIFEST, SKIPPED, STARTS
from spacy_electra.data.tokenizer.files import TOKENIZER_FILES

logger = logging.getLogger(__name__)

_OF_STORES = frozenset({MANIFEST, BUILDING, SKIPPED})
_OF_MODELS = frozenset({*TOKENIZER_FILES, "config.json", "added_tokens.json"})


def files_below(folder: str) -> list[str]:
    """Files below the folder, sorted by path, without hidden ones; links to folders are followed, each folder once.

    Files of a token store or a model are skipped with a logged warning. Raises OSError if a folder cannot be read.
    """
    found: list[str] = []
    seen: set[str] = set()
    for parent, folders, names in os.walk(folder, onerror=_raise, followlinks=True):
        place = os.path.realpath(parent)
        folders[:] = [] if place in seen else sorted(name for name in folders if not name.startswith("."))
        if place not in seen:
            own = _own(parent, names)
            found += [os.path.join(parent, name) for name in names if name not in own and not name.startswith(".")]
        seen.add(place)
    return sorted(found, key=lambda name: name.split(os.sep))


def files_matching(pattern: str) -> list[str]:
    """Files that match the glob, and those below the folders that match it, chosen as by `files_below`."""
    found: dict[str, None] = {}
    own: dict[str, frozenset[str]] = {}  # by folder
    for match in sorted(glob.glob(pattern, recursive=True)):
        parent, name = os.path.split(match)
        if os.path.isdir(match):
            found.update(dict.fromkeys(files_below(match)))
            continue
        if parent not in own:
            own[parent] = _own(parent, os.listdir(parent or os.curdir))
        if name not in own[parent]:
            found[match] = None
    return list(found)


def _own(folder: str, names: Collection[str]) -> frozenset[str]:
    """Those of all names in a folder that belong to a token store or a model, where there is one; logs them."""
    is_store = STARTS in names or any(name.startswith("shard-") and name.endswith(".bin") for name in names)
    is_model = "tokenizer.json" in names or {"vocab.txt", "tokenizer_config.json"} <= set(names)
    own = frozenset(names) & ((_OF_STORES if is_store else frozenset()) | (_OF_MODELS if is_model else frozenset()))
    if own:
        logger.warning("%s: passed over, as files of a token store or a model: %s", folder, ", ".join(sorted(own)))
    return own


def _raise(error: OSError) -> None:
    raise error
