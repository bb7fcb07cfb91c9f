"""`spacy electra corpus`: raw text from the docstrings of the installed packages, which every machine has."""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import typer
from wasabi import msg

from spacy_electra.cli.bars import bar
from spacy_electra.cli.errors import clear_errors
from spacy_electra.data.atomic import sync
from spacy_electra.data.corpus.docstrings import Module, find_modules, installed_roots, read_modules

MODULES_A_PROCESS = 200  # fewer are read faster than another process starts


@clear_errors
def corpus_cli(
    out_path: Path = typer.Argument(..., metavar="OUT.jsonl", help="File to write, one document for each module"),
    min_words: int = typer.Option(5, "--min-words", min=1, help="Minimum number of words in a paragraph"),
    roots: list[Path] = typer.Option([], "--from", help="Folder to read instead of the installed packages; repeatable"),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace an existing file"),
) -> None:
    """Collect English prose from the docstrings of installed packages.

    Files are parsed, never imported. The same files give the same corpus.

    \b
    Example:
      python -m spacy electra corpus corpus/software.jsonl
    """
    if out_path.suffix != ".jsonl":
        raise ValueError(f"the corpus is written as .jsonl, but got the name {out_path}.")
    if out_path.exists() and not overwrite:
        raise ValueError(f"{out_path} is there already: add --overwrite, or give another name.")
    modules = find_modules(roots or installed_roots())
    counts = _Counts()
    partial = out_path.with_name(out_path.name + ".partial")
    out_path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with partial.open("w", encoding="utf8", newline="\n") as file:
            for source, text in _documents(modules, counts, min_words=min_words):
                file.write(json.dumps({"text": text, "source": source}, ensure_ascii=False) + "\n")
        if not counts.documents:
            raise ValueError(f"none of the {len(modules)} Python files has prose in its documentation strings.")
        sync(partial)
        partial.replace(out_path)
    finally:
        partial.unlink(missing_ok=True)
    msg.good(
        f"Wrote {counts.documents:,} documents of {len(modules):,} Python files: {counts.words:,} words, "
        f"{out_path.stat().st_size / 1e6:.1f} MB, {counts.repeated:,} repeated paragraphs left out, {out_path}"
    )
    if counts.unreadable:
        msg.warn(f"{counts.unreadable} files cannot be read, or not as Python of this version, and were passed over.")


@dataclass
class _Counts:
    documents: int = 0
    words: int = 0
    repeated: int = 0  # paragraphs
    unreadable: int = 0  # files


def _documents(modules: list[Module], counts: _Counts, *, min_words: int) -> Iterator[tuple[str, str]]:
    """Source and text of each module with prose; of equal paragraphs the first is kept. Fills `counts`."""
    seen: set[str] = set()
    processes = max(1, min(_cores(), len(modules) // MODULES_A_PROCESS))
    with bar(len(modules), what="corpus", unit=" files") as progress:
        for module, prose in zip(modules, read_modules(modules, min_words=min_words, processes=processes), strict=True):
            progress.update()
            if prose is None:
                counts.unreadable += 1
                continue
            fresh = [paragraph for paragraph in dict.fromkeys(prose) if paragraph not in seen]
            counts.repeated += len(prose) - len(fresh)
            seen.update(fresh)
            if fresh:
                text = "\n".join(fresh)
                counts.documents += 1
                counts.words += len(text.split())
                yield module.source, text


def _cores() -> int:
    """Cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1
