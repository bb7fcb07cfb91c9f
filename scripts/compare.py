"""What each start is worth: mean and standard deviation over seeds of each variant's scores, side by side.

Example: python scripts/compare.py metrics/software --baseline random --output metrics/software/comparison
writes comparison.md and comparison.json, and prints the table.
"""

import json
import math
import statistics
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import typer
from runs import read_runs
from wasabi import msg

from spacy_electra.cli.errors import clear_errors

# spaCy's key -> what people call it. Scores are shares of 1 and are shown in percent.
SCORES = {
    "tag_acc": "tags (accuracy)",
    "pos_acc": "parts of speech (accuracy)",
    "morph_acc": "morphology (accuracy)",
    "lemma_acc": "lemmas (accuracy)",
    "dep_uas": "heads (UAS)",
    "dep_las": "heads and labels (LAS)",
    "ents_p": "entities (precision)",
    "ents_r": "entities (recall)",
    "ents_f": "entities (F1)",
    "cats_macro_f": "categories (macro F1)",
}


@dataclass(frozen=True)
class Sample:
    """One score of one variant, in percent."""

    mean: float
    deviation: float  # sample standard deviation over seeds; 0 for a single seed
    seeds: int


@dataclass(frozen=True)
class Line:
    """One score of all variants. Differences are from the baseline, in points."""

    score: str
    samples: dict[str, Sample]
    differences: dict[str, float]
    pooled: dict[str, float]  # pooled standard deviation with the baseline


@clear_errors
def main(
    metrics: list[Path] = typer.Argument(..., help="Folders that evaluate_runs.py has written"),
    baseline: str = typer.Option(..., help="The variant that the others are compared with"),
    output: Path = typer.Option(..., help="Where to write the table, without .md and .json"),
    title: str = typer.Option("Scores", help="Heading of the table"),
) -> None:
    """Compare variants over seeds."""
    tables = [read_scores(folder) for folder in metrics]
    check_variants(dict(zip(metrics, tables, strict=True)))
    lines = [line for table in tables for line in compare(table, baseline=baseline)]
    docs = [count_docs(table) for table in tables]
    costs = [note for table in tables if (note := cost_note(table))]
    text = "\n".join([as_markdown(lines, docs=docs, title=title, baseline=baseline), *costs])
    output.parent.mkdir(parents=True, exist_ok=True)
    output.with_suffix(".md").write_text(text, encoding="utf8")
    data = {"docs": docs, "baseline": baseline, "scores": [asdict(line) for line in lines]}
    output.with_suffix(".json").write_text(json.dumps(data, indent=2) + "\n", encoding="utf8")
    print(f"\n{text}")
    msg.good(f"Wrote {output.with_suffix('.md')} and {output.with_suffix('.json')}")


def read_scores(folder: Path) -> dict[str, list[dict[str, float]]]:
    """For each variant the scores of its seeds. Raises ValueError where runs were scored on different data."""
    table: dict[str, list[dict[str, float]]] = {}
    for run in read_runs(folder):
        path = run.folder(folder).with_suffix(".json")
        scores = json.loads(path.read_text(encoding="utf8"))
        numbers = {key: value for key, value in scores.items() if isinstance(value, int | float)}
        table.setdefault(run.variant, []).append(numbers)
    if len({scores["docs"] for runs in table.values() for scores in runs}) != 1:
        raise ValueError(f"the runs in {folder} were not scored on the same documents: evaluate them again.")
    return table


def check_variants(tables: Mapping[Path, Collection[str]]) -> None:
    """Raise ValueError, with a folder and the variants that it lacks, unless all folders have the same variants."""
    wanted = dict.fromkeys(variant for table in tables.values() for variant in table)
    for folder, table in tables.items():
        if missing := [variant for variant in wanted if variant not in table]:
            raise ValueError(
                f"{folder} has no runs of {', '.join(missing)}, but the other folders have, and a table needs the same "
                f"variants of all: train and evaluate them, or compare {folder} by itself."
            )


def count_docs(table: Mapping[str, list[dict[str, float]]]) -> int:
    """How many documents the runs of a table were scored on."""
    return int(next(iter(table.values()))[0]["docs"])


def cost_note(table: Mapping[str, list[dict[str, float]]]) -> str:
    """What the runs of each variant took; empty where that was not noted."""
    minutes = {
        name: statistics.fmean(scores.get("cpu_minutes", 0.0) for scores in runs) for name, runs in table.items()
    }
    told = ", ".join(f"{name} {mean:.1f}" for name, mean in minutes.items())
    return f"CPU-minutes of fine-tuning a run: {told}.\n" if all(minutes.values()) else ""


def compare(table: Mapping[str, list[dict[str, float]]], *, baseline: str) -> list[Line]:
    """A line for each score that all runs have. Raises ValueError for an unknown baseline."""
    if baseline not in table:
        raise ValueError(f"there is no variant {baseline!r} to compare with: the variants are {', '.join(table)}.")
    runs = [scores for seeds in table.values() for scores in seeds]
    return [
        _line(SCORES[key], {name: sample([scores[key] for scores in seeds]) for name, seeds in table.items()}, baseline)
        for key in SCORES
        if all(key in scores for scores in runs)
    ]


def _line(score: str, samples: dict[str, Sample], baseline: str) -> Line:
    base = samples[baseline]
    others = {name: one for name, one in samples.items() if name != baseline}
    return Line(
        score=score,
        samples=samples,
        differences={name: one.mean - base.mean for name, one in others.items()},
        pooled={name: pooled_deviation(base, one) for name, one in others.items()},
    )


def sample(scores: list[float]) -> Sample:
    """Mean and sample standard deviation, in percent."""
    percent = [100 * score for score in scores]
    deviation = statistics.stdev(percent) if len(percent) > 1 else 0.0
    return Sample(mean=statistics.fmean(percent), deviation=deviation, seeds=len(percent))


def pooled_deviation(a: Sample, b: Sample) -> float:
    """Square root of the variances' mean, weighed by degrees of freedom; 0 where neither has any."""
    freedom = a.seeds + b.seeds - 2
    if freedom == 0:
        return 0.0
    return math.sqrt(((a.seeds - 1) * a.deviation**2 + (b.seeds - 1) * b.deviation**2) / freedom)


def as_markdown(lines: list[Line], *, docs: list[int], title: str, baseline: str) -> str:
    """The table as people read it."""
    variants = list(lines[0].samples) if lines else []
    variants.sort(key=lambda name: name != baseline)
    header = ["score", *variants, *(f"{name} - {baseline}" for name in variants[1:])]
    rows = [
        [line.score, *(shown(line.samples[v]) for v in variants), *(_gain(line, v) for v in variants[1:])]
        for line in lines
    ]
    seeds = ", ".join(f"{name} {lines[0].samples[name].seeds}" for name in variants) if lines else ""
    counts = " and ".join(f"{count:,}" for count in docs)
    note = f"{counts} documents. Percent, mean ± standard deviation over seeds ({seeds})."
    return "\n".join([f"# {title}", "", *as_table(header, rows), "", note, ""])


def as_table(header: list[str], rows: list[list[str]]) -> list[str]:
    """The lines of a table in Markdown, its columns as wide as their cells."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    return [_row(header, widths), _row(["-" * width for width in widths], widths), *(_row(row, widths) for row in rows)]


def shown(one: Sample) -> str:
    """Mean and deviation, as a cell has them; a single seed has no deviation."""
    return f"{one.mean:.1f}" + (f" ± {one.deviation:.1f}" if one.seeds > 1 else "")


def _gain(line: Line, variant: str) -> str:
    difference, pooled = line.differences[variant], line.pooled[variant]
    return f"{difference:+.1f}" + (f" ({abs(difference) / pooled:.1f} pooled deviations)" if pooled else "")


def _row(cells: list[str], widths: list[int]) -> str:
    return "| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) + " |"


if __name__ == "__main__":
    typer.run(main)
