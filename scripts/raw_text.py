"""Prose of downloaded repositories as JSONL, one file an archive: what pretraining on general text reads.

Takes .tar.gz archives of Markdown, reStructuredText and plain text; paragraphs that are English prose are kept, without
markup, code and tables. A folder without archives is left as it is.
Example: python scripts/raw_text.py corpus/downloads/archives corpus/downloads/pretrain
"""

import gzip
import json
import tarfile
import zlib
from collections.abc import Iterator
from io import TextIOWrapper
from pathlib import Path, PurePosixPath

import typer
from wasabi import msg

from spacy_electra.cli.errors import clear_errors
from spacy_electra.data.corpus.prose import prose_of

SUFFIXES = {".md", ".mdx", ".rst", ".txt"}
MIN_WORDS = 5  # of a paragraph


@clear_errors
def main(
    archives: Path = typer.Argument(..., help="Folder with .tar.gz archives"),
    output: Path = typer.Argument(..., help="Folder for the .jsonl.gz files"),
) -> None:
    """Extract the prose of archives."""
    found = sorted(archives.glob("*.tar.gz")) if archives.is_dir() else []
    if not found:
        ready = sorted(output.glob("*.jsonl*")) if output.is_dir() else []
        if not ready:
            raise FileNotFoundError(
                f"there are no archives in {archives} and no text in {output}: fetch the assets first."
            )
        msg.info(f"{output} holds {len(ready)} files of text and {archives} no archive: nothing to do")
    output.mkdir(parents=True, exist_ok=True)
    for path in found:
        target = output / f"{path.name.removesuffix('.tar.gz')}.jsonl.gz"
        count = 0
        # no time in the file's head, so that the same text is the same file
        with TextIOWrapper(gzip.GzipFile(target, "wb", mtime=0), encoding="utf8", newline="\n") as file:
            for name, text in read_archive(path):
                file.write(json.dumps({"text": text, "source": name}, ensure_ascii=False) + "\n")
                count += 1
        msg.good(f"{target}: {count:,} documents")


def read_archive(path: Path) -> Iterator[tuple[str, str]]:
    """Name and prose of each text file of an archive that has prose, its paragraphs apart by line breaks.

    Raises ValueError where the archive is damaged.
    """
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                content = archive.extractfile(member) if PurePosixPath(member.name).suffix in SUFFIXES else None
                if content is not None:
                    text = "\n".join(prose_of(content.read().decode("utf8", errors="replace"), min_words=MIN_WORDS))
                    if text:
                        yield member.name, text
    except (EOFError, tarfile.TarError, zlib.error) as error:
        raise ValueError(f"{path} is damaged ({error}): remove it and fetch the assets again.") from error


if __name__ == "__main__":
    typer.run(main)
