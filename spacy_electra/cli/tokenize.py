"""`spacy electra tokenize`: cut a corpus into pieces once, for all pretraining runs on it."""

from pathlib import Path

import typer
from wasabi import msg

from spacy_electra.cli.bars import bar
from spacy_electra.cli.documents import corpus_bytes, open_documents
from spacy_electra.cli.errors import clear_errors
from spacy_electra.data.corpus import Skipped
from spacy_electra.data.store import build_store
from spacy_electra.data.wordpiece import WordPiece


@clear_errors
def tokenize(
    paths: list[Path] = typer.Argument(..., metavar="CORPUS...", help="Text: files, folders, globs, URLs"),
    out_dir: Path = typer.Argument(..., help="Folder of the store"),
    tokenizer: Path = typer.Option(..., "--tokenizer", "-t", help="Folder of the tokenizer"),
    processes: int = typer.Option(1, "--processes", "-n", min=1, help="Processes; one uses all cores by threads"),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace the store that is there"),
) -> None:
    """Cut a corpus into pieces; the store that it makes is what `pretrain` reads.

    Interrupted, it goes on where it was when it is run again. A store that is finished stays as it is.

    \b
    Example:
      python -m spacy electra tokenize corpus/software.jsonl corpus/pretrain --tokenizer corpus/tokenizer
    """
    pieces = WordPiece.load(tokenizer)
    skipped = Skipped()
    with bar(corpus_bytes(paths), what="tokenize", unit="B") as progress:
        manifest = build_store(
            open_documents(paths, skipped=skipped, on_bytes=progress.update),
            pieces,
            out_dir,
            processes=processes,
            skipped=skipped.counts,
            overwrite=overwrite,
        )
    if skipped.faults:
        msg.warn(str(skipped))
    msg.good(f"{manifest.documents:,} documents, {manifest.pieces:,} pieces of {pieces.size:,}, {out_dir}")
