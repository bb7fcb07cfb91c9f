"""CoNLL-U to spaCy's binary format, with tags, morphology, lemmas, trees, entities and categories.

Example: python scripts/convert_conllu.py assets/software-train.conllu corpus/software/train.spacy
"""

import hashlib
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import typer
from spacy.tokens import Doc, DocBin
from spacy.vocab import Vocab
from treebank import Sentence, read_sentences
from uner import merge_entities, read_annotated
from wasabi import msg

from spacy_electra.cli.errors import clear_errors

CATEGORY = "category"  # `# category = bug` above a sentence


@clear_errors
def main(
    source: Path = typer.Argument(..., help="CoNLL-U file, plain or .gz"),
    target: Path = typer.Argument(..., help="Where to write the .spacy file"),
    entities: Path | None = typer.Option(None, help="IOB2 file with the entities, where MISC has none (name=B-LABEL)"),
    ignore: str = typer.Option("", help="Labels of --entities to leave out, e.g. OTH,MISC"),
    group: int = typer.Option(1, min=1, help="Sentences of one document to put into a Doc"),
    held_out: Path | None = typer.Option(None, help="Second .spacy file that takes one document in --every"),
    every: int = typer.Option(10, min=2, help="Share of --held-out, chosen by a hash of the document's id"),
    limit: int | None = typer.Option(None, min=1, help="Keep that many documents of those not held out, by their hash"),
) -> None:
    """Convert a treebank for `spacy train`."""
    sentences = list(read_sentences(source))
    if entities is not None:
        labels = frozenset(filter(None, ignore.split(",")))
        sentences = merge_entities(sentences, list(read_annotated(entities, ignore=labels)))
    has_entities = any(one.has_entities for one in sentences)
    if held_out is not None:
        kept_out = [one for one in sentences if is_held_out(one.document, every=every)]
        sentences = [one for one in sentences if not is_held_out(one.document, every=every)]
        write(kept_out, held_out, group=group, has_entities=has_entities)
    if limit is not None:
        sentences = some_documents(sentences, limit)
    write(sentences, target, group=group, has_entities=has_entities)


def some_documents(sentences: list[Sentence], most: int) -> list[Sentence]:
    """The sentences of `most` documents in their order, by hash; a larger number keeps those of a smaller one."""
    kept = set(sorted({one.document for one in sentences}, key=hash_of)[:most])
    return [one for one in sentences if one.document in kept]


def is_held_out(identifier: str, *, every: int) -> bool:
    """Whether a document belongs to the held-out part: the same on every machine, whatever else is in the file."""
    return hash_of(identifier) % every == 0


def hash_of(identifier: str) -> int:
    """A number from a document's id that looks random."""
    return int.from_bytes(hashlib.sha256(identifier.encode("utf8")).digest()[:8], "big")


def write(sentences: list[Sentence], target: Path, *, group: int, has_entities: bool) -> None:
    """Write sentences as Docs. Raises ValueError for an empty list and for categories of grouped sentences."""
    docs = list(make_docs(sentences, group=group, has_entities=has_entities))
    if not docs:
        raise ValueError(f"there are no sentences for {target}: give a CoNLL-U file with at least one.")
    target.parent.mkdir(parents=True, exist_ok=True)
    DocBin(docs=docs, store_user_data=True).to_disk(target)
    msg.good(f"{target}: {len(docs):,} docs, {len(sentences):,} sentences, {sum(map(len, docs)):,} words")


def make_docs(sentences: list[Sentence], *, group: int, has_entities: bool) -> Iterator[Doc]:
    """One Doc for `group` sentences, never across documents.

    has_entities: False leaves entities unset, so that nothing is learned from their absence.
    """
    categories = sorted({one.comments[CATEGORY] for one in sentences if CATEGORY in one.comments})
    if categories and group > 1:
        raise ValueError(f"the sentences have a category each, so they cannot share Docs: use --group 1, not {group}.")
    vocab = Vocab()
    for _, same_document in groupby(sentences, key=lambda one: one.document):
        together = list(same_document)
        for start in range(0, len(together), group):
            doc = make_doc(vocab, together[start : start + group], has_entities=has_entities)
            if categories:
                doc.cats = {name: float(together[start].comments.get(CATEGORY) == name) for name in categories}
            yield doc


def make_doc(vocab: Vocab, sentences: list[Sentence], *, has_entities: bool) -> Doc:
    """A Doc of sentences in a row; the last has no space behind it."""
    words = [word for sentence in sentences for word in sentence.words]
    spaces = [word.space_after for word in words]
    starts = [sum(len(one.words) for one in sentences[:number]) for number in range(len(sentences))]
    heads = [
        start + (word.head - 1 if word.head else place)
        for start, sentence in zip(starts, sentences, strict=True)
        for place, word in enumerate(sentence.words)
    ]
    check_entities(sentences)
    return Doc(
        vocab,
        words=[word.form for word in words],
        spaces=[*spaces[:-1], False],
        tags=[word.xpos for word in words],
        pos=[word.upos for word in words],
        morphs=[word.feats for word in words],
        lemmas=[word.lemma for word in words],
        heads=heads,
        deps=["ROOT" if word.head == 0 else word.deprel for word in words],
        ents=[word.entity for word in words] if has_entities else None,
    )


def check_entities(sentences: list[Sentence]) -> None:
    """Raises ValueError for an entity that goes on without having begun; spaCy would mend it in silence."""
    for sentence in sentences:
        previous = "O"
        for word in sentence.words:
            if word.entity.startswith("I-") and previous[2:] != word.entity[2:]:
                raise ValueError(
                    f"{sentence.id}: {word.form!r} is {word.entity}, but no {word.entity[2:]} began before it."
                )
            previous = word.entity


if __name__ == "__main__":
    typer.run(main)
