"""How fast `tokenize` makes a store, beside the bare `encode_batch` of the tokenizers library on texts in memory.

Both use all cores. Ours reads and parses the files, encodes, hashes, writes shards and joins them; the library's gives
lists that are thrown away. They take turns, and each round of ours begins in an empty folder with nothing remembered.
Example: python benchmarks/tokenizing.py general.jsonl.gz corpus/tokenizer --json tokenizing.json
"""

import json
import os
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import typer
from tokenizers import Tokenizer

from spacy_electra.data.corpus.documents import read_documents
from spacy_electra.data.corpus.skipped import Skipped
from spacy_electra.data.store.writer import build_store
from spacy_electra.data.tokenizer.wordpiece import WordPiece

TEXTS_AT_ONCE = 1_000  # of the library; more at once is no faster and needs more memory


def main(
    corpus: Path = typer.Argument(..., help="Text that fits into memory"),
    tokenizer: Path = typer.Argument(..., help="Folder of the tokenizer"),
    rounds: int = typer.Option(3, min=1, help="Times that each is run"),
    processes: str = typer.Option(f"1,{os.cpu_count()}", help="Numbers of processes of ours; 1 is threads alone"),
    output: Path | None = typer.Option(None, "--json", help="File for the figures"),
) -> None:
    """Measure, print the best of each and their ratio."""
    texts = [document.text for document in read_documents([str(corpus)], skipped=Skipped())]
    bare = Tokenizer.from_file(str(tokenizer / "tokenizer.json"))
    programs: dict[str, Callable[[], int]] = {"encode_batch": partial(encode_all, bare, texts)}
    for number in map(int, processes.split(",")):
        programs[f"tokenize --processes {number}"] = partial(make_store, corpus, tokenizer, number)
    seconds: dict[str, list[float]] = {name: [] for name in programs}
    pieces: dict[str, int] = {}
    for _ in range(rounds):
        for name, program in programs.items():
            begun = time.perf_counter()
            pieces[name] = program()
            seconds[name].append(time.perf_counter() - begun)
    first = min(seconds["encode_batch"])
    facts = {
        name: {
            "pieces": pieces[name],
            "seconds": [round(one, 3) for one in found],
            "pieces_a_second": round(pieces[name] / min(found)),
            "times_encode_batch": round(first / min(found), 2),
        }
        for name, found in seconds.items()
    }
    print(json.dumps(facts, indent=2))
    if output is not None:
        output.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf8")


def encode_all(tokenizer: Tokenizer, texts: list[str]) -> int:
    """How many pieces the library finds."""
    return sum(
        len(encoding.ids)
        for first in range(0, len(texts), TEXTS_AT_ONCE)
        for encoding in tokenizer.encode_batch(texts[first : first + TEXTS_AT_ONCE], add_special_tokens=False)
    )


def make_store(corpus: Path, tokenizer: Path, processes: int) -> int:
    """How many pieces the store holds that is made from the files."""
    with tempfile.TemporaryDirectory() as folder:
        documents = read_documents([str(corpus)], skipped=Skipped())
        return build_store(documents, WordPiece.load(tokenizer), Path(folder) / "store", processes=processes).pieces


if __name__ == "__main__":
    typer.run(main)
