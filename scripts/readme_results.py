"""Write README's table of results from what ladders have left, between the two marks that README holds.

Example: python scripts/readme_results.py docs/results README.md
"""

import statistics
from collections.abc import Iterable
from pathlib import Path

import typer
from compare import as_table, shown
from ladder_page import NONE, Table, read_tables
from wasabi import msg

from spacy_electra.cli.errors import clear_errors
from spacy_electra.data.atomic import replace_file

BEGIN = "<!-- results: written by scripts/readme_results.py -->\n"
END = "<!-- end of results -->\n"
SHORT = {
    "tag_acc": "tags",
    "dep_uas": "UAS",
    "dep_las": "LAS",
    "ents_f": "entities",
    "cats_macro_f": "categories",
}
PIPELINES = {
    "cnn": "spaCy's CNN",
    "cnn-ensemble": "spaCy's CNN and words counted",
    "cnn-floret": "with floret vectors",
    "cnn-pretrain": "after `spacy pretrain`",
    "random": "random weights",
    "electra": "ELECTRA from nothing",
    "start": "the included encoder",
    "start-electra": "mean of it and of ELECTRA on own text",
}

COUNTS_ALONE = {"cnn": "spaCy, words counted"}  # where nothing but a text classifier is trained


@clear_errors
def main(
    results: Path = typer.Argument("docs/results", help="Folder of the results"),
    readme: Path = typer.Argument("README.md", help="File that holds the two marks"),
) -> None:
    """Replace what stands between the marks."""
    text = readme.read_text(encoding="utf8")
    replace_file(readme, with_results(text, results).encode("utf8"))
    msg.good(f"Wrote the results into {readme}")


def with_results(text: str, results: Path) -> str:
    """The text with today's table. Raises ValueError where it lacks one of the marks."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"The text needs a line {BEGIN.strip()!r} and below it a line {END.strip()!r}.")
    return "".join([before, BEGIN, *(f"{line}\n" for line in make_table(results)), END, after])


def make_table(results: Path) -> list[str]:
    """A row for each task and rung, tasks of several scores first. Raises ValueError as `read_tables` does."""
    tables = sorted(read_tables(results), key=lambda table: -len(table.description.scores))
    costs = ["CPU-minutes of pretraining", "of fine-tuning", "words per CPU-second"]
    header = ["task", "pipeline", "seeds", *SHORT.values(), *costs]
    return as_table(header, [row for table in tables for row in _rows(table)])


def _rows(table: Table) -> list[list[str]]:
    rungs = [rung for rung in PIPELINES if rung in table.rungs]
    names = PIPELINES | (COUNTS_ALONE if table.description.scores == ("cats_macro_f",) else {})
    return [
        [
            table.description.title if rung == rungs[0] else "",
            names[rung],
            str(len(table.rungs[rung])),
            *(_cell(table, rung, score) for score in SHORT),
            _minutes(one.cpu_minutes_pretraining for one in table.rungs[rung]),
            _minutes(one.cpu_minutes_fine_tuning for one in table.rungs[rung]),
            f"{statistics.fmean(one.words_per_cpu_second for one in table.rungs[rung]):,.0f}",
        ]
        for rung in rungs
    ]


def _minutes(found: Iterable[float]) -> str:
    """The mean, with a decimal where it would be less than one."""
    mean = statistics.fmean(found)
    return f"{mean:.1f}" if 0 < mean < 1 else f"{mean:.0f}"


def _cell(table: Table, rung: str, score: str) -> str:
    found = table.sample(rung, score) if score in table.description.scores else None
    return NONE if found is None else shown(found)


if __name__ == "__main__":
    typer.run(main)
