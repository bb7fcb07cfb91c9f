"""README's table of results is the one that follows from docs/results/."""

from dataclasses import replace
from pathlib import Path

import pytest
from ladder_results import Description, Result, result_path, write_description, write_result
from readme_results import BEGIN, END, make_table, with_results

ROOT = Path(__file__).parents[2]
RESULT = Result(
    rung="cnn",
    seed=0,
    scores={"tag_acc": 0.914, "ents_f": 0.665},
    steps=2000,
    best_step=1800,
    cpu_minutes_text=0.0,
    cpu_minutes_pretraining=15.2,
    cpu_minutes_fine_tuning=4.6,
    words_per_cpu_second=7463.2,
    docs=136,
    words=2345,
    processor="A processor",
    versions={"spacy": "3.8"},
    documents="d",
    fingerprint="f",
)


def write(folder: Path, task: str, *results: Result, scores: tuple[str, ...]) -> None:
    write_description(folder, task, Description(task.title(), "Some text.", scores))
    for one in results:
        write_result(result_path(folder, task, one.rung, one.seed), one)


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_the_table_in_the_readme_follows_from_the_results() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf8")
    assert with_results(readme, ROOT / "docs" / "results") == readme, "run scripts/readme_results.py"


def test_a_row_has_a_score_for_each_column_that_its_task_shows(tmp_path: Path) -> None:
    second = replace(RESULT, seed=1, scores={"tag_acc": 0.916, "ents_f": 0.665})
    start = replace(RESULT, rung="start", scores={"tag_acc": 0.96, "ents_f": 0.72}, cpu_minutes_fine_tuning=12.4)
    write(tmp_path, "software", RESULT, second, start, scores=("tag_acc", "ents_f"))
    rows = [cells(line) for line in make_table(tmp_path)[2:]]
    assert rows == [
        ["Software", "spaCy's CNN", "2", "91.5 ± 0.1", "–", "–", "66.5 ± 0.0", "–", "15", "5", "7,463"],
        ["", "the included encoder", "1", "96.0", "–", "–", "72.0", "–", "15", "12", "7,463"],
    ]


def test_tasks_with_more_scores_come_first(tmp_path: Path) -> None:
    write(tmp_path, "a", replace(RESULT, scores={"cats_macro_f": 0.8}), scores=("cats_macro_f",))
    write(tmp_path, "b", RESULT, scores=("tag_acc", "ents_f"))
    assert [cells(line)[0] for line in make_table(tmp_path)[2:]] == ["B", "A"]


def test_only_what_stands_between_the_marks_is_replaced(tmp_path: Path) -> None:
    write(tmp_path, "software", RESULT, scores=("tag_acc",))
    text = f"before\n\n{BEGIN}old\n{END}\nafter\n"
    new = with_results(text, tmp_path)
    assert new == text.replace("old\n", "".join(f"{line}\n" for line in make_table(tmp_path)))
    assert with_results(new, tmp_path) == new


@pytest.mark.parametrize("text", ["nothing", BEGIN, END, f"{END}{BEGIN}"])
def test_a_text_without_the_marks_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ValueError, match="The text needs a line '<!-- results"):
        with_results(text, tmp_path)


def test_a_classifier_alone_is_not_called_a_cnn(tmp_path: Path) -> None:
    write(tmp_path, "a", replace(RESULT, scores={"cats_macro_f": 0.8}), scores=("cats_macro_f",))
    assert cells(make_table(tmp_path)[2])[1] == "spaCy, words counted"
