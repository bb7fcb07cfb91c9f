"""`spacy electra tokenize`: tokenize a corpus once, for all pretraining runs on it."""

from dataclasses import dataclass
from pathlib import Path

import typer
from wasabi import msg

from spacy_electra.cli.bars import bar
from spacy_electra.cli.documents import (
    CORPUS,
    MAX_DOCUMENT_MB,
    MAX_FAULTS,
    MAX_WINDOW_MB,
    SPACY,
    ReadingLimits,
    corpus_files,
    open_documents,
)
from spacy_electra.cli.errors import clear_errors, warn
from spacy_electra.cli.folder_kinds import STORE, check_kind
from spacy_electra.cli.outputs import check_folder
from spacy_electra.cli.unknown import warn_of_unknown
from spacy_electra.data.corpus.limits import MemoryLimits
from spacy_electra.data.corpus.skipped import Skipped
from spacy_electra.data.corpus.sources import is_url, suffixes, total_bytes
from spacy_electra.data.store.manifest import MANIFEST, SKIPPED, Manifest
from spacy_electra.data.store.merge import Shares, finish_removal, join_parts, joined_pieces, missing_parts, share_out
from spacy_electra.data.store.reader import Store
from spacy_electra.data.store.writer import build_store
from spacy_electra.data.tokenizer.wordpiece import WordPiece

MANY_LINES = 20  # of a .txt that somebody may have meant as one text a line


@clear_errors
def tokenize_cli(
    paths: list[str] = typer.Argument(..., metavar="CORPUS...", help=CORPUS),
    out_dir: Path = typer.Argument(..., help="Folder of the store"),
    tokenizer: Path = typer.Option(..., "--tokenizer", "-t", help="Folder of the tokenizer, or a run's model-last"),
    processes: int = typer.Option(1, "--processes", "-n", min=1, help="Processes; one alone uses all cores by threads"),
    max_faults: int = typer.Option(MAX_FAULTS, "--max-faults", min=0, help="Number of broken lines to tolerate"),
    max_length: int | None = typer.Option(None, "--max-length", min=1, help="Maximum characters of a document"),
    max_document_mb: float = MAX_DOCUMENT_MB,
    max_window_mb: int = MAX_WINDOW_MB,
    num_shards: int = typer.Option(1, "--num-shards", min=1, help="Number of jobs that share the files"),
    shard_index: int | None = typer.Option(None, "--shard-index", min=0, help="Number of this job, from 0"),
    merge: bool = typer.Option(False, "--merge", help="Merge the output of all jobs into one store"),
    join: bool = typer.Option(False, "--join", hidden=True),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace an existing store once this one is finished"),
) -> None:
    """Tokenize a corpus into a store, which `pretrain` reads.

    Run it again to resume after an interruption. A finished store is not changed.

    Several jobs can share the work, on one machine or on several with the same folders. Call each job with its own
    --shard-index. When all have ended, call the same command with --merge instead. The store has the same bytes as
    one made by a single job.

    \b
    Example:
      python -m spacy electra tokenize corpus/software.jsonl corpus/pretrain --tokenizer corpus/tokenizer
    \b
    Example of two jobs:
      python -m spacy electra tokenize texts/ corpus/pretrain -t corpus/tokenizer --num-shards 2 --shard-index 0
      python -m spacy electra tokenize texts/ corpus/pretrain -t corpus/tokenizer --num-shards 2 --shard-index 1
      python -m spacy electra tokenize texts/ corpus/pretrain -t corpus/tokenizer --num-shards 2 --merge
    """
    merge = _wants_merge(merge=merge, join=join)
    _check_jobs(num_shards, shard_index, merge=merge)
    _check_folder(out_dir, is_part=shard_index is not None and not overwrite)
    pieces = WordPiece.load(tokenizer)
    if merge:
        _merge(paths, pieces, out_dir, num_shards=num_shards, overwrite=overwrite)
        return
    limits = ReadingLimits(max_faults, max_length, MemoryLimits(max_document_mb, max_window_mb))
    job = _choose_job(corpus_files(paths), out_dir, num_shards=num_shards, shard_index=shard_index)
    manifest = _build(job, pieces, limits, processes=processes, overwrite=overwrite)
    _report_store(manifest, job.folder, job.files, pieces)
    if job.shares is not None:
        _report_part(out_dir, job.shares, shard_index)
    elif manifest.documents == len(job.files) == 1:
        _inform_of_lines_in_one_document(job.files[0], limits.memory)


@dataclass(frozen=True)
class _Job:
    """The files to tokenize, and the folder of their store."""

    files: list[str]
    folder: Path
    shares: Shares | None = None  # None: this job has the whole corpus


def _wants_merge(*, merge: bool, join: bool) -> bool:
    """Whether either name of the option is given; warns of the older one."""
    if join:
        warn("--join is called --merge now; the older name will go in the next minor version.")
    return merge or join


def _choose_job(files: list[str], out_dir: Path, *, num_shards: int, shard_index: int | None) -> _Job:
    """The whole corpus, or the files of job number `shard_index` with a store of their own."""
    if shard_index is None:
        return _Job(files, out_dir)
    shares = share_out(files, jobs=num_shards)
    return _Job(list(shares.files[shard_index]), shares.part(out_dir, shard_index), shares)


def _build(job: _Job, pieces: WordPiece, limits: ReadingLimits, *, processes: int, overwrite: bool) -> Manifest:
    """Tokenize the files of a job behind a progress bar, and warn of what was skipped."""
    skipped, is_part = Skipped(), job.shares is not None
    with bar(total_bytes(job.files), what="tokenize", unit="B") as progress:
        documents = open_documents(
            job.files, skipped=skipped, limits=limits, may_be_empty=is_part, on_bytes=progress.update
        )
        manifest = build_store(
            documents,
            pieces,
            job.folder,
            processes=processes,
            skipped=skipped,
            overwrite=overwrite,
            keep_digests=is_part,
        )
    if skipped.faults:
        listed = job.folder / SKIPPED
        warn(f"{skipped}" + f"\n  all of it is listed in {listed}" * listed.exists())
    return manifest


def _inform_of_lines_in_one_document(name: str, memory: MemoryLimits) -> None:
    """Inform about a .txt of many lines if each of them may have been meant as a text."""
    if is_url(name) or name.endswith(SPACY) or suffixes(name)[0] != ".txt":
        return
    limits = ReadingLimits(max_faults=0, memory=memory)
    document = next(open_documents([name], skipped=Skipped(), limits=limits))
    if document.text.count("\n") >= MANY_LINES:
        msg.info(f"{name} is one document; for one text a line use .jsonl")


def _check_jobs(num_shards: int, shard_index: int | None, *, merge: bool) -> None:
    """Raise ValueError if the options contradict each other."""
    if merge and shard_index is not None:
        raise ValueError("--merge takes the place of --shard-index, but got both: leave one of them out.")
    if num_shards > 1 and shard_index is None and not merge:
        raise ValueError(
            f"--num-shards {num_shards} needs --shard-index, 0 to {num_shards - 1}, or --merge when all jobs are done."
        )
    if shard_index is not None and shard_index >= num_shards:
        raise ValueError(
            f"--shard-index {shard_index} is out of range: --num-shards {num_shards} has 0 to {num_shards - 1}."
        )


def _check_folder(out_dir: Path, *, is_part: bool) -> None:
    check_kind(out_dir, STORE)
    check_folder(out_dir)
    if is_part and (out_dir / MANIFEST).exists():
        raise ValueError(f"{out_dir} holds a finished store: give another folder, or replace it with --overwrite.")


def _merge(paths: list[str], pieces: WordPiece, out_dir: Path, *, num_shards: int, overwrite: bool) -> None:
    shares = share_out(corpus_files(paths), jobs=num_shards)
    finish_removal(out_dir, shares)
    is_joined = (out_dir / MANIFEST).exists() and len(missing_parts(out_dir, shares)) == num_shards
    if is_joined and not overwrite:
        _report_store(Store.open(out_dir, tokenizer=pieces).manifest, out_dir, [], pieces)
        msg.info("The store is whole already: nothing to merge. It was not compared with the corpus.")
        if left := [folder for folder in shares.parts(out_dir) if folder.exists()]:
            msg.warn(f"What is left of parts stays, {left[0]} for one: remove {left[0].parent} if no job fills it.")
        return
    with bar(joined_pieces(out_dir, shares), what="merge", unit=" pieces") as progress:
        manifest = join_parts(pieces, out_dir, shares, overwrite=overwrite, on_pieces=progress.update)
    _report_store(manifest, out_dir, [], pieces)


def _report_part(out_dir: Path, shares: Shares, index: int | None) -> None:
    left, jobs = len(missing_parts(out_dir, shares)), len(shares.files)
    what_next = f"{left} of {jobs} parts are to come" if left else "all parts are there, run it with --merge"
    msg.info(f"Part {index} of {jobs} is finished: {what_next}")


def _report_store(manifest: Manifest, out_dir: Path, files: list[str], pieces: WordPiece) -> None:
    """Print the size of the store. files: of the corpus, to name unknown words."""
    msg.good(f"{manifest.documents:,} documents, {manifest.pieces:,} pieces, into {out_dir}")
    warn_of_unknown(manifest, files, pieces)
