"""Score a pipeline on a .spacy file, and time it on the texts of its documents: one JSON.

Words per processor second are those of `nlp.pipe` with the pipeline's own batch size, tokenizer included, best of a few
passes after one that does not count. The environment says how many threads there are.
Example: OMP_NUM_THREADS=1 python scripts/score_pipeline.py training/run/model-best corpus/test.spacy scores.json
"""

import json
import time
from pathlib import Path

import spacy
import typer
from compare import SCORES
from spacy.cli.evaluate import evaluate
from spacy.language import Language
from spacy.tokens import DocBin
from wasabi import msg

from spacy_electra.cli.errors import clear_errors

PASSES = 3  # at least
SECONDS = 2.0  # of the processor, at least, for all passes


@clear_errors
def main(
    model: Path = typer.Argument(..., help="Folder of the pipeline"),
    data: Path = typer.Argument(..., help="The .spacy file"),
    output: Path = typer.Argument(..., help="Where to write the JSON"),
) -> None:
    """Score and time."""
    for path in (model, data):
        if not path.exists():
            raise FileNotFoundError(f"there is no {path} to score.")
    found = evaluate(str(model), data, silent=True)
    nlp = spacy.load(model)
    texts = [doc.text for doc in DocBin().from_disk(data).get_docs(nlp.vocab)]
    words = sum(len(nlp.make_doc(text)) for text in texts)
    scores = {key: found[key] for key in SCORES if isinstance(found.get(key), float)}
    rate = words_per_cpu_second(nlp, texts, words)
    record = {"docs": len(texts), "words": words, "scores": scores, "words_per_cpu_second": round(rate, 1)}
    output.write_text(json.dumps(record, indent=2) + "\n", encoding="utf8")
    msg.good(f"{output}: {len(texts):,} documents, {rate:,.0f} words per CPU-second")


def words_per_cpu_second(nlp: Language, texts: list[str], words: int) -> float:
    """The rate of the fastest pass."""
    seconds: list[float] = []
    _read(nlp, texts)
    while len(seconds) < PASSES or sum(seconds) < SECONDS:
        seconds.append(_read(nlp, texts))
    return words / max(min(seconds), time.get_clock_info("process_time").resolution)


def _read(nlp: Language, texts: list[str]) -> float:
    """Processor seconds of one pass."""
    before = time.process_time()
    for _ in nlp.pipe(texts):
        pass
    return time.process_time() - before


if __name__ == "__main__":
    typer.run(main)
