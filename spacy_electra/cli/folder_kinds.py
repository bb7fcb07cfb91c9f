"""The kind of a folder that a command writes into, so that no content of another kind is overwritten."""

from pathlib import Path

from spacy_electra.data.store.manifest import BUILDING, MANIFEST

STORE, RUN, PIPELINE, MODEL, TOKENIZER_KIND = "token store", "run", "pipeline", "model", "tokenizer"

_FILES = {  # one of which a folder of the kind has; a model has a tokenizer's files as well
    STORE: (MANIFEST, BUILDING),
    RUN: ("checkpoints", "metrics.jsonl"),  # their names are in training/, whose import takes seconds
    PIPELINE: ("meta.json",),
    MODEL: ("model.safetensors", "pytorch_model.bin"),
    TOKENIZER_KIND: ("tokenizer.json", "vocab.txt"),
}


def kind_of(folder: Path) -> str | None:
    """The kind of a folder, by its files; None if it is none of these."""
    return next((kind for kind, names in _FILES.items() if any((folder / name).exists() for name in names)), None)


def check_kind(folder: Path, wanted: str) -> None:
    """Raise ValueError if the output folder is a file, or a folder of another kind."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"the output {folder} is a file: give a folder for the {wanted}.")
    found = kind_of(folder)
    if found not in (None, wanted) and (wanted, found) != (MODEL, TOKENIZER_KIND):
        raise ValueError(f"{folder} is the folder of a {found}, so no {wanted} can go there: give another folder.")
