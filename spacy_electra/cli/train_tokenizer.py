"""`spacy electra train-tokenizer`: learn a vocabulary from raw text."""

from pathlib import Path

import typer
from wasabi import msg

from spacy_electra.cli.documents import (
    CORPUS,
    MAX_DOCUMENT_MB,
    MAX_FAULTS,
    MAX_WINDOW_MB,
    ReadingLimits,
    texts_with_progress,
)
from spacy_electra.cli.errors import clear_errors, warn
from spacy_electra.cli.folder_kinds import TOKENIZER_KIND, check_kind
from spacy_electra.cli.outputs import check_folder
from spacy_electra.cli.pieces_used import pieces_used
from spacy_electra.data.corpus.limits import MemoryLimits
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
    cased: bool = typer.Option(False, "--cased", help="Keep upper case in a new vocabulary"),
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
    _check_output(out_dir, overwrite=overwrite)
    limits = ReadingLimits(max_faults, max_length, MemoryLimits(max_document_mb, max_window_mb))
    if source in (None, "null"):
        vocab_size = vocab_size or VOCAB_SIZE
        tokenizer = _learn(paths, vocab_size=vocab_size, cased=cased, strip_accents=strip_accents, limits=limits)
        done = f"Learned {tokenizer.size:,} pieces"
    else:
        tokenizer = _take(source, paths, vocab_size=vocab_size, limits=limits)
        _warn_of_ignored(tokenizer, source, cased=cased, strip_accents=strip_accents)
        done = f"Took {tokenizer.size:,} pieces of {source}" + " without reading the corpus" * (vocab_size is None)
    tokenizer.save(out_dir)
    msg.good(f"{done}, {_kind(tokenizer)}, into {out_dir}")


def _check_output(out_dir: Path, *, overwrite: bool) -> None:
    """Raise ValueError if the tokenizer cannot be written there, or would replace one unasked."""
    check_kind(out_dir, TOKENIZER_KIND)
    check_folder(out_dir)
    found = next((name for name in TOKENIZER_FILES if (out_dir / name).exists()), None)
    if found and not overwrite:
        raise ValueError(f"{out_dir} holds a tokenizer already ({found}): add --overwrite, or give another folder.")


def _learn(
    paths: list[str], *, vocab_size: int, cased: bool, strip_accents: bool | None, limits: ReadingLimits
) -> WordPiece:
    """Learn a vocabulary from a corpus."""
    with texts_with_progress(paths, limits) as texts:
        return train_wordpiece(texts, vocab_size=vocab_size, cased=cased, strip_accents=strip_accents)


def _take(source: str, paths: list[str], *, vocab_size: int | None, limits: ReadingLimits) -> WordPiece:
    """The vocabulary of a checkpoint; with `vocab_size`, only its pieces that are most frequent in the corpus."""
    tokenizer = WordPiece.load(find_discriminator(source))
    if vocab_size is None:
        return tokenizer
    return pieces_used(paths, tokenizer, vocab_size=vocab_size, limits=limits)


def _warn_of_ignored(tokenizer: WordPiece, source: str, *, cased: bool, strip_accents: bool | None) -> None:
    """Warn of options that contradict the vocabulary of a checkpoint, which keeps its case and accents."""
    ignored = ["--cased"] if cased and not tokenizer.cased else []
    if strip_accents is not None and strip_accents == tokenizer.keeps_accents:
        ignored.append("--strip-accents" if strip_accents else "--keep-accents")
    if ignored:
        warn(f"--from ignores {' and '.join(ignored)}: the vocabulary of {source} is {_kind(tokenizer)}.")


def _kind(tokenizer: WordPiece) -> str:
    kept = " with accents kept" if tokenizer.keeps_accents else " without accents"
    return "cased" * tokenizer.cased + f"uncased{kept}" * (not tokenizer.cased)
