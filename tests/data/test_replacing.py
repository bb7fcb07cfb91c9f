"""A folder's content is replaced whole or not at all, wherever in between the process is killed."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from spacy_electra.data.atomic import alone_in
from spacy_electra.data.atomic_folder import remove_partial, replaced_folder, settle

KilledAtEveryStep = Callable[..., int]

OLD = {"a": "old", "b": "old", "stale": "old", "mine": "kept"}
NEW = {"a": "new", "b": "new", "c/d": "new", "mine": "kept"}


def fill(folder: Path, texts: dict[str, str]) -> None:
    for name, text in texts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def content(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


def replace(folder: Path, *, gone: tuple[str, ...] | None = ("stale",)) -> None:
    with replaced_folder(folder, last="a", gone=gone) as partial:
        fill(partial, {name: text for name, text in NEW.items() if text == "new"})


def visible(folder: Path) -> dict[str, str]:
    """What a reader sees that knows nothing of unfinished replacements."""
    return {name: text for name, text in content(folder).items() if not name.startswith(".partial-")}


def test_files_of_others_stay_and_stale_ones_go(tmp_path: Path) -> None:
    fill(tmp_path, OLD)
    replace(tmp_path)
    assert content(tmp_path) == NEW


def test_all_that_was_there_goes_where_the_folder_is_ours(tmp_path: Path) -> None:
    fill(tmp_path / "new", OLD)
    replace(tmp_path / "new", gone=None)
    assert content(tmp_path) == {"new/a": "new", "new/b": "new", "new/c/d": "new"}


def test_an_error_leaves_what_was_there(tmp_path: Path) -> None:
    fill(tmp_path / "old", OLD)

    def fail(folder: Path) -> None:
        with replaced_folder(folder, last="a") as partial:
            (partial / "a").write_text("new")
            raise OSError("disk full")

    for name in ("old", "new"):
        with pytest.raises(OSError, match="disk full"):
            fail(tmp_path / name)
    assert content(tmp_path) == {f"old/{name}": text for name, text in OLD.items()}
    assert not (tmp_path / "new").exists()


def test_a_folder_takes_no_files_place(tmp_path: Path) -> None:
    fill(tmp_path, {"a": "old", "b/mine": "kept"})
    with pytest.raises(IsADirectoryError, match="b"):
        replace(tmp_path)
    assert content(tmp_path) == {"a": "old", "b/mine": "kept"}


@pytest.mark.parametrize("is_there", [False, True])
def test_a_killed_replacement_is_the_old_or_the_new_when_it_is_settled(
    tmp_path: Path, killed_at_every_step: KilledAtEveryStep, is_there: bool
) -> None:
    found = []

    def prepare(folder: Path) -> None:
        if is_there:
            fill(folder / "place", OLD)

    def check(folder: Path) -> None:
        place = folder / "place"
        seen = visible(place)
        assert "a" not in seen or len({text for name, text in seen.items() if name != "mine"}) == 1, seen
        settle(place)
        found.append(visible(place))
        assert found[-1] in ([OLD, NEW] if is_there else [{}, NEW_ALONE])
        replace(place)
        assert content(folder) == {f"place/{name}": text for name, text in (NEW if is_there else NEW_ALONE).items()}

    kills = killed_at_every_step(lambda folder: replace(folder / "place"), prepare=prepare, check=check)
    assert kills >= 5
    assert found[0] != found[-1]


NEW_ALONE = {name: text for name, text in NEW.items() if text == "new"}


def test_a_folder_that_another_process_replaces_is_not_settled(tmp_path: Path) -> None:
    fill(tmp_path, {".partial-decided/.order": '["a"]', ".partial-decided/a": "new"})
    with alone_in(tmp_path), pytest.raises(ValueError, match="another process is writing into"):
        settle(tmp_path)
    settle(tmp_path)
    assert content(tmp_path) == {"a": "new"}


def test_what_was_not_decided_is_removed(tmp_path: Path) -> None:
    fill(tmp_path, {".partial-new/a": "new", ".partial-file": "new", "mine": "kept"})
    remove_partial(tmp_path)
    assert content(tmp_path) == {"mine": "kept"}


def test_files_and_folders_have_the_modes_of_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        replace(tmp_path / "new")
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "new", tmp_path / "new" / "a")}
    assert modes == {"new": 0o750, "a": 0o640}
