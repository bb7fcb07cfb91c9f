"""`spacy electra train-tokenizer`: learn a vocabulary from raw text."""

from pathlib import Path

import typer
from wasabi import msg

from spacy_electra.cli.bars import bar
from spacy_electra.cli.documents import CORPUS, MAX_DOCUMENT_MB, MAX_FAULTS, MAX_WINDOW_MB, corpus_files, open_documents
from spacy_electra.cli.errors import clear_errors, warn
from spacy_electra.cli.folder_kinds import TOKENIZER_KIND, check_kind
from spacy_electra.cli.outputs import check_folder
from spacy_electra.cli.pieces_used import pieces_used
from spacy_electra.data.corpus.limits import MemoryLimits
from spacy_electra.data.corpus.skipped import Skipped
from spacy_electra.data.corpus.sources import total_bytes
from spacy_electra.data.tokenizer.files import TOKENIZER_FILES
from spacy_electra.data.tokenizer.wordpiece import WordPiece, train_wordpiece
from spacy_electra.model.files.hub import find_discriminator

VOCAB_SIZE = 8000


@clear_errors
def train_tokenizer_cli(
    paths: list[str] = typer.Argument(..., metavar="CORPUS...", help=CORPUS),
    out_dir: Path = typer.Argument(..., help="Folder for the tokenizer's files"),
    vocab_size: int | None = typer.Option(
        None, "--vocab-size", "-n", min=10, help=f"Number of pieces; {VOCAB_SIZE:,} for a new vocabulary if omitted"
    ),
    cased: bool = typer.Option(False, "--cased", help="Keep upper case"),
    strip_accents: bool | None = typer.Option(
        None,
        "--strip-accents/--keep-accents",
        help="If omitted, uncased vocabularies strip accents, but keep marks that are letters",
    ),
    source: str | None = typer.Option(
        None,
        "--from",
        help="Take the vocabulary of these weights instead of learning one; null learns one. With --vocab-size, keep "
        "the pieces that are most frequent in the corpus",
    ),
    max_faults: int = typer.Option(MAX_FAULTS, "--max-faults", min=0, help="Number of broken lines to tolerate"),
    max_length: int | None = typer.Option(None, "--max-length", min=1, help="Maximum characters of a document"),
    max_document_mb: float = MAX_DOCUMENT_MB,
    max_window_mb: int = MAX_WINDOW_MB,
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace an existing tokenizer"),
) -> None:
    """Learn a WordPiece vocabulary, which Hugging Face's ElectraTokenizer can read.

    \b
    Example:
      python -m spacy electra train-tokenizer corpus/software.jsonl corpus/tokenizer --vocab-size 8000
    """
    check_kind(out_dir, TOKENIZER_KIND)
    check_folder(out_dir)
    found = next((name for name in TOKENIZER_FILES if (out_dir / name).exists()), None)
    if found and not overwrite:
        raise ValueError(f"{out_dir} holds a tokenizer already ({found}): add --overwrite, or give another folder.")
    if source not in (None, "null"):
        tokenizer = WordPiece.load(find_discriminator(source))
        if vocab_size is not None:
            tokenizer = pieces_used(
                paths,
                tokenizer,
                vocab_size=vocab_size,
                max_faults=max_faults,
                max_length=max_length,
                memory=MemoryLimits(max_document_mb, max_window_mb),
            )
        tokenizer.save(out_dir)
        msg.good(f"Took {tokenizer.size:,} {_kind(tokenizer)} pieces of {source}, {out_dir}")
        return
    skipped = Skipped()
    files = corpus_files(paths)
    with bar(total_bytes(files), what="read", unit="B") as progress:
        documents = open_documents(
            files,
            skipped=skipped,
            max_faults=max_faults,
            max_length=max_length,
            memory=MemoryLimits(max_document_mb, max_window_mb),
            on_bytes=progress.update,
        )
        tokenizer = train_wordpiece(
            (document.text for document in documents),
            vocab_size=vocab_size or VOCAB_SIZE,
            cased=cased,
            strip_accents=strip_accents,
        )
    tokenizer.save(out_dir)
    if skipped.faults:
        warn(str(skipped))
    msg.good(f"Learned {tokenizer.size:,} {_kind(tokenizer)} pieces, {out_dir}")


def _kind(tokenizer: WordPiece) -> str:
    kept = " with accents kept" if tokenizer.keeps_accents else " without accents"
    return "cased" * tokenizer.cased + f"uncased{kept}" * (not tokenizer.cased)
