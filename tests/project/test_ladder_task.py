"""Descriptions of tasks: those of the project are whole, and mistakes are named."""

from pathlib import Path

import pytest
from ladder_task import MAKE, ROOT, RUNGS, Task, arguments, filled, read_task

TASKS = sorted((ROOT / "configs" / "ladder").glob("*.cfg"))
SOFTWARE = ROOT / "configs" / "ladder" / "software.cfg"


def changed(folder: Path, old: str, new: str) -> Path:
    """The built-in task's description with one part replaced."""
    text = SOFTWARE.read_text(encoding="utf8")
    assert old in text
    (folder / "own.cfg").write_text(text.replace(old, new), encoding="utf8")
    return folder / "own.cfg"


def test_the_tasks_of_the_project_are_there() -> None:
    assert {path.stem for path in TASKS} == {
        "software",
        "software-few",
        "ewt",
        "sst2",
        "banking77",
        "banking77-few",
        "trec",
        "wnut17",
        "zh",
    }


@pytest.mark.parametrize("path", TASKS, ids=lambda path: path.stem)
def test_a_task_of_the_project_names_scripts_that_are_there(path: Path, tmp_path: Path) -> None:
    task = read_task(path, {})
    assert task.name == path.stem
    assert list(task.fine_tuning.steps) == list(RUNGS)
    places = {"data": tmp_path, "assets": ROOT / "assets", "made": tmp_path}
    for command in task.make.values():
        words = arguments(command, places)
        assert words[:3] == ["-m", "spacy", "electra"] or Path(words[0]).is_file()
    assert Path(filled(task.about.start, places)).is_dir()


def test_settings_are_overridden(tmp_path: Path) -> None:
    task = read_task(SOFTWARE, {"pretraining.minutes": 0.5, "fine_tuning.steps.cnn-floret": 100})
    assert task.pretraining.minutes == 0.5
    assert task.fine_tuning.steps["cnn-floret"] == 100
    assert read_task(SOFTWARE, {"fine_tuning.steps": dict.fromkeys([n.replace("-", "_") for n in RUNGS], 50)})


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("minutes = 10", "minuets = 10", r"\[pretraining\] has an unknown key 'minuets': did you mean 'minutes'"),
        ("minutes = 10", "minutes = 0", "pretraining.minutes: input should be greater than 0, but got 0"),
        ("minutes = 10\n", "", r"\[pretraining\] lacks the key 'minutes'"),
        ("[paths]", "[path]", "unknown section 'path': did you mean 'paths'"),
        ('"tag_acc"', '"tag_ac"', "unknown score 'tag_ac': did you mean 'tag_acc'"),
        ('size = "tiny"', 'size = "tinny"', "unknown size 'tinny': did you mean 'tiny'"),
        ("cnn = 2000", "cn = 2000", r"\[fine_tuning.steps\] has an unknown rung 'cn': did you mean 'cnn'"),
        ("mlm = 1000\n", "", r"\[fine_tuning.steps\] lacks the rung 'mlm'"),
        ("mlm = 1000", "mlm = 1020", "mlm is 1020, expected a multiple of eval_frequency, 50"),
        ("seeds = [0, 1, 2]", "seeds = []", "task.seeds: list should have at least 1 item"),
        ("[task]", "task", "cannot be read as a config"),
    ],
)
def test_a_mistake_is_named(old: str, new: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        read_task(changed(tmp_path, old, new), {})


def test_a_missing_task_and_a_missing_section_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"there is no task .*nowhere\.cfg"):
        read_task(tmp_path / "nowhere.cfg", {})
    text = SOFTWARE.read_text(encoding="utf8")
    start, end = text.index("# Each is a script"), text.index("[paths]")
    with pytest.raises(ValueError, match=rf"lacks the section \[{MAKE}\]"):
        read_task(changed(tmp_path, text[start:end], ""), {})


def test_places_are_filled_in_and_others_refused(tmp_path: Path) -> None:
    assert filled("{data}/a {made}", {"data": Path("/d"), "made": Path("/m")}) == "/d/a /m"
    with pytest.raises(ValueError, match="unknown place 'dta': did you mean 'data'"):
        filled("{dta}/a", {"data": tmp_path})


def test_a_command_is_a_script_or_a_module(tmp_path: Path) -> None:
    places = {"data": tmp_path / "with space"}
    assert arguments("-m spacy train", places) == ["-m", "spacy", "train"]
    assert arguments("a.py {data}/x", places) == [str(ROOT / "scripts" / "a.py"), f"{tmp_path}/with space/x"]
    with pytest.raises(ValueError, match="an empty command"):
        arguments(" ", places)


def test_a_task_is_its_name(tmp_path: Path) -> None:
    task: Task = read_task(changed(tmp_path, "minutes = 10", "minutes = 1"), {})
    assert (task.name, task.pretraining.minutes) == ("own", 1.0)
