"""The page of results: what the project's own says, and what results of any number give."""

import json
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from compare import Sample
from ladder_page import EMPTY, Table, best_of_spacy, difference, is_clear, make_page, read_table, write_page
from ladder_plots import Panel, Point, axes_of, draw, log_ticks, place_labels, ticks
from ladder_results import (
    Description,
    Result,
    processor,
    read_description,
    read_result,
    read_results,
    result_path,
    versions,
    write_description,
    write_result,
)

DESCRIPTION = Description("A task", "Some text.", ("tag_acc", "ents_f"))
SVG = "{http://www.w3.org/2000/svg}"


def result(rung: str, seed: int, *, tags: float = 0.9, entities: float = 0.5, minutes: float = 2.0) -> Result:
    return Result(
        rung=rung,
        seed=seed,
        scores={"tag_acc": tags, "ents_f": entities},
        steps=1500,
        best_step=1000,
        cpu_minutes_text=0.5,
        cpu_minutes_pretraining=10.0,
        cpu_minutes_fine_tuning=minutes,
        words_per_cpu_second=4321.0,
        docs=136,
        words=2345,
        processor="A processor",
        versions={"spacy": "3.8"},
        documents="d",
        fingerprint="f",
    )


def write(folder: Path, *results: Result, task: str = "task") -> Path:
    """A folder of results."""
    write_description(folder, task, DESCRIPTION)
    for one in results:
        write_result(result_path(folder, task, one.rung, one.seed), one)
    return folder


def table(*results: Result, scores: tuple[str, ...] = ("tag_acc", "ents_f")) -> Table:
    rungs = {one.rung: [other for other in results if other.rung == one.rung] for one in results}
    return Table(replace(DESCRIPTION, scores=scores), rungs)


def test_the_page_of_the_project_is_what_the_script_makes(root: Path) -> None:
    made = make_page(root / "docs" / "results")
    there = {path.name: path for path in (root / "docs").glob("results*") if path.is_file()}
    assert there.keys() == made.keys(), "run `python scripts/ladder_page.py docs/results`"
    for name, text in made.items():
        assert there[name].read_text(encoding="utf8") == text, "run `python scripts/ladder_page.py docs/results`"


def test_without_results_the_page_says_so_and_has_no_plots(tmp_path: Path) -> None:
    (tmp_path / "results-speed.svg").write_text("<svg/>")
    assert write_page(tmp_path / "results") == [tmp_path / "results.md"]
    assert (tmp_path / "results.md").read_text(encoding="utf8").endswith(EMPTY)
    assert not (tmp_path / "results-speed.svg").exists()
    write(tmp_path / "results")
    assert make_page(tmp_path / "results")["results.md"].endswith(EMPTY)


def test_one_result_is_a_page_without_differences(tmp_path: Path) -> None:
    made = make_page(write(tmp_path / "results", result("start", 0)))
    assert "| start | 1     | 90.0  " in made["results.md"]
    assert "Differences to the best" not in made["results.md"]
    assert "Scored on 136 documents with 2,345 words." in made["results.md"]
    assert set(made) == {"results.md", "results-minutes.svg", "results-speed.svg"}


def test_a_row_has_means_deviations_and_costs(tmp_path: Path) -> None:
    # tags: deviations -1, 0, 1 points; minutes: (1 + 2 + 6) / 3
    runs = [result("electra", seed, tags=0.90 + seed / 100, minutes=(1.0, 2.0, 6.0)[seed]) for seed in range(3)]
    page = make_page(write(tmp_path / "results", *runs))["results.md"]
    (row,) = [line for line in page.splitlines() if line.startswith("| electra | 3")]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells == ["electra", "3", "91.0 ± 1.0", "50.0 ± 0.0", "0.5", "10.0", "3.0", "1,500", "4,321"]


def test_rungs_are_in_the_order_of_the_ladder(tmp_path: Path) -> None:
    names = ["start", "mlm", "cnn-floret", "cnn"]
    write(tmp_path, *(result(name, seed) for name in names for seed in (1, 0)))
    found = [(one.rung, one.seed) for one in read_results(tmp_path / "task")]
    assert found == [(name, seed) for name in reversed(names) for seed in (0, 1)]


def test_differences_are_from_the_best_of_spacy_score_by_score() -> None:
    some = table(
        result("cnn", 0, tags=0.90, entities=0.60),
        result("cnn-pretrain", 0, tags=0.92, entities=0.50),
        result("start", 0, tags=0.95, entities=0.55),
    )
    assert (best_of_spacy(some, "tag_acc"), best_of_spacy(some, "ents_f")) == ("cnn-pretrain", "cnn")
    assert difference(some, "start", "cnn-pretrain", "tag_acc") == "+3.0"
    assert difference(some, "start", "cnn", "ents_f") == "-5.0"


def test_a_difference_is_marked_above_two_pooled_deviations() -> None:
    base = [result("cnn", seed, tags=0.90 + seed / 100) for seed in range(3)]  # mean 91, deviation 1
    near = [result("mlm", seed, tags=0.919 + seed / 100) for seed in range(3)]  # 1.9 above, pooled 1
    far = [result("electra", seed, tags=0.921 + seed / 100) for seed in range(3)]
    below = [result("random", seed, tags=0.87 + seed / 100) for seed in range(3)]
    some = table(*base, *near, *far, *below)
    found = [difference(some, rung, "cnn", "tag_acc") for rung in ("mlm", "electra", "random")]
    assert found == ["+1.9", "**+2.1**", "**-3.0**"]


def test_single_seeds_are_never_marked_and_deviation_of_one_side_is_enough() -> None:
    assert not is_clear(Sample(99.0, 0.0, 1), Sample(1.0, 0.0, 1))
    assert is_clear(Sample(99.0, 0.0, 1), Sample(1.0, 5.0, 3))
    assert not is_clear(Sample(10.0, 0.0, 1), Sample(1.0, 5.0, 3))


def test_a_score_that_some_result_lacks_is_a_dash(tmp_path: Path) -> None:
    lacking = replace(result("cnn", 1), scores={"tag_acc": 0.9})
    page = make_page(write(tmp_path / "results", result("cnn", 0), lacking, result("start", 0)))["results.md"]
    assert "| cnn   | 2     | 90.0 ± 0.0      | –" in page
    assert "entities (F1), to –" in page
    texts = [element.text for element in ElementTree.fromstring(read_plot(tmp_path)).iter(f"{SVG}text")]
    assert "start" in texts
    assert "cnn" not in texts


def read_plot(folder: Path) -> str:
    return make_page(folder / "results")["results-speed.svg"]


def test_results_of_different_documents_are_refused(tmp_path: Path) -> None:
    write(tmp_path, result("cnn", 0), replace(result("start", 2), documents="other"))
    with pytest.raises(ValueError, match="cnn with seed 0 and start with seed 2 were made from different documents"):
        read_table(tmp_path / "task")


def test_times_of_two_processors_come_with_a_warning(tmp_path: Path) -> None:
    results = write(tmp_path / "results", result("cnn", 0), replace(result("start", 0), processor="Another"))
    page = make_page(results)["results.md"]
    assert "on A processor and Another. Times of different processors cannot be compared." in page


def test_each_task_has_a_section_and_a_panel(tmp_path: Path) -> None:
    for name in ("b", "a"):
        write(tmp_path / "results", result("cnn", 0), task=name)
        write_description(tmp_path / "results", name, replace(DESCRIPTION, title=f"Task <{name}>"))
    made = make_page(tmp_path / "results")
    assert made["results.md"].index("## Task <a>") < made["results.md"].index("## Task <b>")
    titles = [element.text for element in ElementTree.fromstring(made["results-minutes.svg"]).iter(f"{SVG}text")]
    assert {"Task <a>", "Task <b>"} <= set(titles)


@pytest.mark.parametrize(
    ("content", "message"),
    [("{", "is no JSON"), ("[]", "expected an object .* but got list"), ('{"rung": "cnn"}', r"but got \['rung'\]")],
)
def test_a_damaged_result_is_named(content: str, message: str, tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "task" / "cnn-0.json").write_text(content)
    with pytest.raises(ValueError, match=rf"cnn-0\.json.*{message}"):
        make_page(tmp_path)


def test_a_result_under_another_name_and_a_task_with_other_scores_are_refused(tmp_path: Path) -> None:
    write(tmp_path, result("cnn", 0))
    (tmp_path / "task" / "cnn-0.json").rename(tmp_path / "task" / "cnn-1.json")
    with pytest.raises(ValueError, match="says that it is cnn with seed 0"):
        read_result(tmp_path / "task" / "cnn-1.json")
    (tmp_path / "task.json").write_text(json.dumps({"title": "", "about": "", "scores": ["tags"]}))
    with pytest.raises(ValueError, match=r"expected scores among .* but got \['tags'\]"):
        read_description(tmp_path / "task.json")


def test_a_result_comes_back(tmp_path: Path) -> None:
    one = result("cnn-floret", 3)
    write(tmp_path, one)
    assert read_result(result_path(tmp_path, "task", "cnn-floret", 3)) == one
    assert one.cpu_minutes == 12.5


def test_processor_and_versions_are_named() -> None:
    assert processor()
    assert {"python", "spacy", "torch", "spacy-electra"} <= versions().keys()


def test_ticks_are_round_numbers_inside() -> None:
    assert ticks(0.3, 1.7) == [0.5, 1.0, 1.5]
    assert ticks(82.0, 97.0) == [85.0, 90.0, 95.0]
    assert log_ticks(1.8, 2.1) == [70.0, 80.0, 90.0, 100.0]
    assert log_ticks(0.0, 1.5) == [1.0, 2.0, 5.0, 10.0, 20.0]
    assert log_ticks(0.0, 4.0) == [1.0, 10.0, 100.0, 1000.0, 10000.0]


def test_the_axes_hold_points_and_bars() -> None:
    points = (Point("a", 1.0, 50.0, 5.0, "red"), Point("b", 100.0, 60.0, 1.0, "red"))
    axes = axes_of(points)
    assert axes.low_x < 0.0
    assert axes.high_x > 2.0
    assert axes.low_y < 45.0
    assert axes.high_y > 61.0
    assert axes.x(1.0) < axes.x(100.0)
    assert axes.y(60.0) < axes.y(50.0)  # SVG counts from the top


def test_labels_of_near_points_do_not_cover_each_other() -> None:
    names = ("cnn", "cnn-floret", "cnn-pretrain", "start-electra")
    points = tuple(Point(name, 10.0 + place / 10, 50.0 + place / 10, 1.0, "red") for place, name in enumerate(names))
    places = place_labels(points, axes_of(points))
    boxes = [(left, base - 10, left + 6.2 * len(name), base) for name, (left, base) in zip(names, places, strict=True)]
    for place, one in enumerate(boxes):
        for other in boxes[:place]:
            assert one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]


def test_the_same_points_give_the_same_picture() -> None:
    panel = Panel("A & B", (Point("cnn", 3.0, 50.0, 0.0, "red"),))
    assert draw([panel], x_label="x", y_label="y") == draw([panel], x_label="x", y_label="y")
    root = ElementTree.fromstring(draw([panel] * 3, x_label="x", y_label="y"))
    assert root.get("viewBox") == "0 0 880 620"
