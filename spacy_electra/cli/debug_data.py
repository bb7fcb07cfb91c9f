"""`spacy electra debug data`: count a corpus or a store, and what is left out."""

from pathlib import Path

import numpy as np
import typer
from wasabi import msg

from spacy_electra.cli.bars import bar
from spacy_electra.cli.documents import (
    CORPUS,
    MAX_DOCUMENT_MB,
    MAX_FAULTS,
    MAX_WINDOW_MB,
    ReadingLimits,
    corpus_files,
    open_documents,
)
from spacy_electra.cli.errors import clear_errors, warn
from spacy_electra.data.corpus.limits import MemoryLimits
from spacy_electra.data.corpus.skipped import Skipped
from spacy_electra.data.corpus.sources import total_bytes
from spacy_electra.data.store.manifest import BUILDING, MANIFEST
from spacy_electra.data.store.reader import Store
from spacy_electra.data.tokenizer.unknown import TOO_MANY


@clear_errors
def debug_data(
    paths: list[str] = typer.Argument(..., metavar="CORPUS...|STORE", help=f"{CORPUS}. Or the folder of a store"),
    max_faults: int = typer.Option(MAX_FAULTS, "--max-faults", min=0, help="Number of broken lines to tolerate"),
    max_length: int | None = typer.Option(None, "--max-length", min=1, help="Maximum characters of a document"),
    max_document_mb: float = MAX_DOCUMENT_MB,
    max_window_mb: int = MAX_WINDOW_MB,
    verify: bool = typer.Option(False, "--verify", help="For a store: check that no byte has changed"),
) -> None:
    """Print the counts of a corpus, with what is left out and why, or those of a store.

    \b
    Example:
      python -m spacy electra debug data corpus/software.jsonl
    """
    folder = Path(paths[0])
    if len(paths) == 1 and any((folder / name).is_file() for name in (MANIFEST, BUILDING)):
        _show_store(Store.open(folder), verify=verify)
    elif verify:
        raise ValueError(f"--verify checks a store, but {paths[0]} is none: it has no {MANIFEST}.")
    else:
        _show_corpus(paths, ReadingLimits(max_faults, max_length, MemoryLimits(max_document_mb, max_window_mb)))


def _show_corpus(paths: list[str], limits: ReadingLimits) -> None:
    skipped = Skipped()
    documents = words = characters = longest = 0
    files = corpus_files(paths)
    with bar(total_bytes(files), what="read", unit="B") as progress:
        for document in open_documents(files, skipped=skipped, limits=limits, on_bytes=progress.update):
            documents += 1
            words += len(document.text.split())
            characters += len(document.text)
            longest = max(longest, len(document.text))
    counts = {
        "documents": documents,
        "words": words,
        "characters": characters,
        "characters in the longest": longest,
        **{f"left out: {reason}": count for reason, count in sorted(skipped.counts.items())},
    }
    msg.table([(name, f"{count:,}") for name, count in counts.items()], aligns=("l", "r"))
    if skipped.faults:
        warn(str(skipped))


def _show_store(store: Store, *, verify: bool) -> None:
    manifest, lengths = store.manifest, store.document_lengths()
    unknown = store.unknown_share()
    facts = {
        "documents": f"{store.documents:,}",
        "pieces": f"{store.pieces:,}",
        "pieces in a document": f"{np.median(lengths):,.0f} (median), {lengths.max():,} (most)",
        "vocabulary": f"{manifest.vocabulary:,} pieces",
        "unknown pieces": f"{unknown:.3%}" + " of the first ones" * (manifest.unknown is None),
        "shards": f"{len(manifest.shards):,}",
        "fingerprint": store.fingerprint,
        **{f"left out: {reason}": f"{count:,}" for reason, count in sorted(manifest.skipped.items())},
    }
    msg.table(list(facts.items()))
    if unknown > TOO_MANY:
        msg.warn(f"{unknown:.1%} of the pieces are unknown ([UNK]): the vocabulary does not fit this text")
    if verify:
        store.verify()
        msg.good("Every byte is as it was written")
