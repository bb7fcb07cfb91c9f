"""Write the page of results from what ladders have left: a table for each task, differences, and two plots beside it.

Example: python scripts/ladder_page.py docs/results
writes docs/results.md, docs/results-minutes.svg and docs/results-speed.svg.
"""

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import typer
from compare import SCORES, Sample, as_table, pooled_deviation, sample, shown
from ladder_plots import Panel, Point, draw
from ladder_results import TASK, Description, Result, read_description, read_results
from ladder_task import RUNGS, SPACY_S_OWN
from wasabi import msg

from spacy_electra.cli.errors import clear_errors
from spacy_electra.data.atomic import replace_file

MARK = "**"  # around differences of more than `CLEAR` pooled deviations
CLEAR = 2.0
NONE = "–"
FROM_START = ("start", "start-electra")
COLORS = {"spacy": "#1f5fa8", "ours": "#c25e00", "start": "#2b8a3e"}
MINUTES, SPEED = "minutes", "speed"  # the plots
INTRODUCTION = f"""\
# Results

What a pipeline scores on each of the ways that a user of spaCy could go, called rungs, with the same data, seeds and
evaluation.
`scripts/ladder_page.py` writes this page from `results/`, which `scripts/ladder.py` fills: change nothing by hand.

| rung | what it is |
|---|---|
| cnn | spaCy's CNN, as `spacy init config --optimize efficiency` writes it; a text classifier only counts words |
| cnn-ensemble | the same, but the text classifier reads the CNN as well, as in `--optimize accuracy`, without vectors |
| cnn-floret | cnn-ensemble with floret vectors of the raw text |
| cnn-pretrain | cnn-ensemble after `spacy pretrain` on the raw text |
| random | our transformer from random weights, all of them trained |
| mlm | our transformer, pretrained from nothing as a masked language model |
| electra | our transformer, pretrained from nothing by ELECTRA |
| start | a ready encoder as it is; what it has cost before is not counted |
| start-electra | the mean of it and of what ELECTRA on the raw and the labelled text makes of it |

Scores are percent, mean ± standard deviation over seeds of fine-tuning, which share vectors and pretrained weights.
Minutes and words are those of one thread of the processor. *Text* is the time to learn a vocabulary and
tokenize the raw text, *pretraining* that to learn vectors or weights from it, *fine-tuning* that of `spacy train`,
with its evaluations on the dev documents. Words are read by `nlp.pipe` over the texts that are scored. Differences of
more than two pooled standard deviations are {MARK}bold{MARK}.

```bash
pip install -e ".[ladder]"  # floret, for cnn-floret
python scripts/ladder.py configs/ladder/software.cfg  # the built-in task
python scripts/ladder.py configs/ladder/ewt.cfg --data DIR  # the task's file says what DIR holds
```
"""
EMPTY = "\nThere are no results yet.\n"


@dataclass(frozen=True)
class Table:
    """A task with its results by rung, in the order of the ladder; rungs without results are left out."""

    description: Description
    rungs: dict[str, list[Result]]

    def sample(self, rung: str, score: str) -> Sample | None:
        """Mean and deviation of a score; None where a result lacks it, or the rung has none."""
        found = [result.scores.get(score) for result in self.rungs.get(rung, [])]
        scores = [score for score in found if score is not None]
        return sample(scores) if scores and len(scores) == len(found) else None

    def mean_score(self, rung: str) -> Sample | None:
        """The same of the mean of the task's scores; None where one is missing."""
        names = self.description.scores
        if any(self.sample(rung, name) is None for name in names):
            return None
        return sample([statistics.fmean(result.scores[name] for name in names) for result in self.rungs[rung]])


@clear_errors
def main(results: Path = typer.Argument("docs/results", help="Folder of the results")) -> None:
    """Write page and plots beside the folder of the results."""
    for path in write_page(results):
        msg.good(f"Wrote {path}")


def write_page(results: Path) -> list[Path]:
    """Write the page and its plots, and remove plots that it has no more; what was written."""
    files = make_page(results)
    for name in (_plot(results, MINUTES), _plot(results, SPEED)):
        if name not in files:
            (results.parent / name).unlink(missing_ok=True)
    for name, text in files.items():
        replace_file(results.parent / name, text.encode("utf8"))
    return [results.parent / name for name in files]


def make_page(results: Path) -> dict[str, str]:
    """Names and texts of the page and its plots. Raises ValueError for a result that cannot be read, or compared."""
    tables = read_tables(results)
    page = f"{results.name}.md"
    if not tables:
        return {page: INTRODUCTION + EMPTY}
    panels = [table for table in tables if as_panel(table, lambda result: result.cpu_minutes).points]
    labels = {MINUTES: "CPU-minutes of training, text and pretraining included", SPEED: "words per CPU-second"}
    values: dict[str, Callable[[Result], float]] = {
        MINUTES: lambda result: result.cpu_minutes,
        SPEED: lambda result: result.words_per_cpu_second,
    }
    plots = {
        _plot(results, name): draw(
            [as_panel(table, values[name]) for table in panels], x_label=labels[name], y_label="mean of the scores"
        )
        for name in labels
        if panels
    }
    images = [f"\n![Mean of the scores against {labels[name]}]({_plot(results, name)})\n" for name in labels if panels]
    return {page: "".join([INTRODUCTION, *images, *map(as_section, tables)]), **plots}


def _plot(results: Path, name: str) -> str:
    return f"{results.name}-{name}.svg"


def read_tables(results: Path) -> list[Table]:
    """The tasks that have results, by their folders' names. Raises ValueError as `read_table` does."""
    tables = [read_table(path.parent) for path in sorted(results.glob(f"*/{TASK}"))]
    return [table for table in tables if table.rungs]


def read_table(folder: Path) -> Table:
    """The results of a task. Raises ValueError where they are not of the same documents."""
    found = list(read_results(folder))
    if len({result.documents for result in found}) > 1:
        others = [one for one in found if one.documents != found[0].documents]
        raise ValueError(
            f"{folder}: {found[0].rung} with seed {found[0].seed} and {others[0].rung} with seed {others[0].seed} were "
            f"made from different documents, so they cannot be compared: run the ladder for both, or remove the older."
        )
    rungs = {rung: [one for one in found if one.rung == rung] for rung in RUNGS}
    return Table(read_description(folder / TASK), {rung: some for rung, some in rungs.items() if some})


def as_section(table: Table) -> str:
    """A task as people read it."""
    first = next(iter(table.rungs.values()))[0]
    lines = [
        f"\n## {table.description.title}\n",
        f"{table.description.about} Scored on {first.docs:,} documents with {first.words:,} words.\n",
        *score_table(table),
    ]
    if differences := difference_table(table):
        lines += ["", f"Differences to the best of {_listed(SPACY_S_OWN)}, score by score, in points:\n", *differences]
    return "\n".join([*lines, "", *machines(table), ""])


def score_table(table: Table) -> list[str]:
    """Scores and costs of each rung."""
    names = table.description.scores
    header = ["rung", "seeds", *(SCORES[name] for name in names)]
    header += ["CPU-minutes: text", "pretraining", "fine-tuning", "steps", "words per CPU-second"]
    rows = [
        [
            *(rung, str(len(some)), *(_cell(table.sample(rung, name)) for name in names)),
            f"{_mean(some, lambda one: one.cpu_minutes_text):.1f}",
            f"{_mean(some, lambda one: one.cpu_minutes_pretraining):.1f}",
            f"{_mean(some, lambda one: one.cpu_minutes_fine_tuning):.1f}",
            f"{_mean(some, lambda one: one.steps):,.0f}",
            f"{_mean(some, lambda one: one.words_per_cpu_second):,.0f}",
        ]
        for rung, some in table.rungs.items()
    ]
    return as_table(header, rows)


def difference_table(table: Table) -> list[str]:
    """What each of our rungs is above or below the best of spaCy's own; empty where there are not both."""
    names = table.description.scores
    best = {name: best_of_spacy(table, name) for name in names}
    ours = [rung for rung in table.rungs if rung not in SPACY_S_OWN]
    if not ours or not any(best.values()):
        return []
    header = ["rung", *(f"{SCORES[name]}, to {best[name] or NONE}" for name in names)]
    rows = [[rung, *(difference(table, rung, best[name], name) for name in names)] for rung in ours]
    return as_table(header, rows)


def best_of_spacy(table: Table, score: str) -> str | None:
    """The rung of spaCy's own with the highest mean; None where none has the score."""
    found = {rung: one for rung in SPACY_S_OWN if (one := table.sample(rung, score)) is not None}
    return max(found, key=lambda rung: found[rung].mean) if found else None


def difference(table: Table, rung: str, other: str | None, score: str) -> str:
    """The difference of two means as a cell, marked where it is clear."""
    one, base = table.sample(rung, score), table.sample(other, score) if other else None
    if one is None or base is None:
        return NONE
    points = one.mean - base.mean
    return f"{MARK}{points:+.1f}{MARK}" if is_clear(one, base) else f"{points:+.1f}"


def is_clear(one: Sample, base: Sample) -> bool:
    """Whether means differ by more than two pooled deviations; never where each has a single seed."""
    has_deviation = one.seeds + base.seeds > 2
    return has_deviation and abs(one.mean - base.mean) > CLEAR * pooled_deviation(one, base)


def as_panel(table: Table, value: Callable[[Result], float]) -> Panel:
    """Mean of the scores against a cost or a speed."""
    points = [
        Point(rung, x=_mean(some, value), y=score.mean, deviation=score.deviation, color=_color(rung))
        for rung, some in table.rungs.items()
        if (score := table.mean_score(rung)) is not None
    ]
    return Panel(table.description.title, tuple(points))


def _color(rung: str) -> str:
    if rung in SPACY_S_OWN:
        return COLORS["spacy"]
    return COLORS["start" if rung in FROM_START else "ours"]


def machines(table: Table) -> list[str]:
    """What the results were made with; times of several processors are not comparable, so all are named."""
    results = [result for some in table.rungs.values() for result in some]
    processors = sorted({result.processor for result in results})
    kinds = sorted({f"{name} {number}" for result in results for name, number in result.versions.items()})
    several = " Times of different processors cannot be compared." if len(processors) > 1 else ""
    return [f"Made with {', '.join(kinds)} on {_listed(processors)}.{several}"]


def _listed(names: list[str] | tuple[str, ...]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _mean(results: list[Result], value: Callable[[Result], float]) -> float:
    return statistics.fmean(value(result) for result in results)


def _cell(one: Sample | None) -> str:
    return NONE if one is None else shown(one)


if __name__ == "__main__":
    typer.run(main)
