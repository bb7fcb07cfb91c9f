"""Raw text as spaCy's CNN learns from it: spans of paragraphs for `spacy pretrain`, tokens apart by spaces for floret.

spaCy's reader leaves out documents of 500 tokens or more, so long paragraphs are cut. Tokens are those of the
language's tokenizer: vectors are looked up by them.
Example: python scripts/split_text.py raw.jsonl.gz corpus/text --lang en
writes spans.jsonl, with the key "text", and tokens.txt, a span a line.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import spacy
import typer
from spacy.language import Language
from wasabi import msg

from spacy_electra.cli.errors import clear_errors
from spacy_electra.data.atomic import give_name, partial_name
from spacy_electra.data.corpus.documents import read_documents
from spacy_electra.data.corpus.skipped import Skipped

SPANS, TOKENS = "spans.jsonl", "tokens.txt"
LONGEST = 400  # tokens of a span


@clear_errors
def main(
    source: str = typer.Argument(..., help="Raw text, as `spacy electra tokenize` reads it"),
    output: Path = typer.Argument(..., help="Folder for both files"),
    lang: str = typer.Option("en", help="Language of the tokenizer"),
) -> None:
    """Cut raw text into spans and tokens."""
    nlp = spacy.blank(lang)
    output.mkdir(parents=True, exist_ok=True)
    spans, tokens, counts = output / SPANS, output / TOKENS, [0, 0]
    with (
        partial_name(spans).open("w", encoding="utf8") as jsonl,
        partial_name(tokens).open("w", encoding="utf8") as txt,
    ):
        for text, words in split(nlp, source):
            jsonl.write(json.dumps({"text": text}, ensure_ascii=False) + "\n")
            txt.write(" ".join(words) + "\n")
            counts = [counts[0] + 1, counts[1] + len(words)]
    give_name(spans)
    give_name(tokens)
    msg.good(f"{output}: {counts[0]:,} spans, {counts[1]:,} tokens")


def split(nlp: Language, source: str) -> Iterator[tuple[str, list[str]]]:
    """Text and tokens of each paragraph, cut after every `LONGEST` tokens; white space is no token."""
    for document in read_documents([source], skipped=Skipped()):
        for paragraph in document.text.splitlines():
            doc = nlp.make_doc(paragraph.strip())
            for start in range(0, len(doc), LONGEST):
                span = doc[start : start + LONGEST]
                if words := [token.text for token in span if not token.is_space]:
                    yield span.text, words


if __name__ == "__main__":
    typer.run(main)
