"""Sentences with entities alone, tokens and tags in IOB2, to spaCy's binary format.

Example: python scripts/convert_iob.py data/ner/wnut17/train.iob corpus/train.spacy --held-out corpus/dev.spacy
"""

from collections.abc import Iterator
from pathlib import Path

import spacy
import typer
from convert_conllu import is_held_out
from spacy.tokens import Doc, DocBin
from spacy.vocab import Vocab
from uner import Annotated, read_annotated
from wasabi import msg

from spacy_electra.cli.errors import clear_errors


@clear_errors
def main(
    source: Path = typer.Argument(..., help="IOB2 file, plain or .gz"),
    target: Path = typer.Argument(..., help="Where to write the .spacy file"),
    ignore: str = typer.Option("", help="Labels to leave out, e.g. OTH,MISC"),
    lang: str = typer.Option("en", help="Language of the documents"),
    held_out: Path | None = typer.Option(None, help="Second .spacy file that takes one sentence in --every"),
    every: int = typer.Option(10, min=2, help="Share of --held-out, chosen by a hash of the sentence"),
    limit: int | None = typer.Option(None, min=1, help="Keep the first sentences alone, of those not held out"),
    spaces: bool = typer.Option(True, help="Whether the language writes spaces between words"),
) -> None:
    """Convert annotated sentences for `spacy train`, a document each."""
    sentences = list(read_annotated(source, ignore=frozenset(filter(None, ignore.split(",")))))
    vocab = spacy.blank(lang).vocab
    if held_out is not None:
        kept_out = [one for one in sentences if is_held_out(" ".join(one.tokens), every=every)]
        sentences = [one for one in sentences if not is_held_out(" ".join(one.tokens), every=every)]
        write(vocab, kept_out, held_out, spaces=spaces)
    write(vocab, sentences[:limit], target, spaces=spaces)


def write(vocab: Vocab, sentences: list[Annotated], target: Path, *, spaces: bool = True) -> None:
    """Write the sentences as Docs. Raises ValueError where there are none."""
    if not sentences:
        raise ValueError(f"there are no sentences for {target}: give an IOB2 file with more of them.")
    docs = list(make_docs(vocab, sentences, spaces=spaces))
    target.parent.mkdir(parents=True, exist_ok=True)
    DocBin(docs=docs).to_disk(target)
    msg.good(f"{target}: {len(docs):,} sentences, {sum(len(doc.ents) for doc in docs):,} entities")


def make_docs(vocab: Vocab, sentences: list[Annotated], *, spaces: bool) -> Iterator[Doc]:
    """A Doc of each sentence. The files do not say where spaces are: one follows each token, or none does."""
    for sentence in sentences:
        words = list(sentence.tokens)
        yield Doc(vocab, words=words, spaces=[spaces] * len(words), ents=list(sentence.tags))


if __name__ == "__main__":
    typer.run(main)
