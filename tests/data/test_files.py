"""Files that appear all together or not at all."""

from pathlib import Path

import pytest

from spacy_electra.data.files import filled_whole


def test_files_stand_beside_those_that_were_there(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("kept")
    (tmp_path / "a").write_text("old")
    with filled_whole(tmp_path, last="a") as folder:
        (folder / "a").write_text("new")
        (folder / "b").write_text("b")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"mine": "kept", "a": "new", "b": "b"}


def write_and_fail(directory: Path) -> None:
    with filled_whole(directory, last="a") as folder:
        (folder / "a").write_text("new")
        raise OSError("disk full")


def test_an_error_leaves_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("old")
    with pytest.raises(OSError, match="disk full"):
        write_and_fail(tmp_path)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a": "old"}


def test_an_error_leaves_no_new_folder(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="disk full"):
        write_and_fail(tmp_path / "new")
    assert not (tmp_path / "new").exists()


def write_in_order(directory: Path, *names: str, last: str) -> None:
    with filled_whole(directory, last=last) as folder:
        for name in names:
            (folder / name).write_text(name)


def test_the_last_file_comes_when_all_others_are_there(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()  # no file can take its name, so moving fails here
    with pytest.raises(OSError, match="b"):
        write_in_order(tmp_path, "a", "b", last="a")
    assert not (tmp_path / "a").exists()
