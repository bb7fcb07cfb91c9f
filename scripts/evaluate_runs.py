"""Score every run of a set on the same sentences: one JSON a run, as `spacy evaluate` writes it.

Example: python scripts/evaluate_runs.py training/software/runs corpus/software/test.spacy metrics/software
"""

import json
from pathlib import Path

import typer
from runs import read_cost, read_runs, write_runs
from spacy.cli.evaluate import evaluate
from spacy.tokens import DocBin
from wasabi import msg

from spacy_electra.cli.errors import clear_errors

DOCS, CPU_MINUTES = "docs", "cpu_minutes"  # keys beside spaCy's scores: documents, and what training took


@clear_errors
def main(
    runs: Path = typer.Argument(..., help="Folder that train_runs.py has written"),
    data: Path = typer.Argument(..., help="The .spacy file to score on"),
    output: Path = typer.Argument(..., help="Folder for the scores: VARIANT/seed-N.json"),
    gpu_id: int = typer.Option(-1, help="Number of the GPU; -1 for the CPU"),
) -> None:
    """Evaluate the best model of each run."""
    if not data.is_file():
        raise FileNotFoundError(f"there is no file {data} to score on.")
    count = len(DocBin().from_disk(data))
    done = read_runs(runs)
    for run in done:
        path = run.folder(output).with_suffix(".json")
        path.parent.mkdir(parents=True, exist_ok=True)
        scores = evaluate(str(run.folder(runs) / "model-best"), data, use_gpu=gpu_id, silent=True)
        scores.pop("speed", None)  # a clock, not a score
        scores[CPU_MINUTES] = read_cost(run.folder(runs))
        path.write_text(json.dumps({DOCS: count, **scores}, indent=2, sort_keys=True) + "\n", encoding="utf8")
    write_runs(output, done)
    msg.good(f"{output}: {len(done)} runs, {count:,} documents of {data}")


if __name__ == "__main__":
    typer.run(main)
