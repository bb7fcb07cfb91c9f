"""Checkpoints: whole or not there, bit for bit, and no more of them than asked for."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from spacy_electra.training.checkpoint import Checkpoint, has_checkpoint, read_checkpoint, write_checkpoint
from spacy_electra.training.state import State, Sums


def checkpoint(step: int, *, value: float = 0.1) -> Checkpoint:
    sums = Sums(generator=torch.tensor(1 / 3), discriminator=0.25, chosen=torch.tensor(7.0), judged=9.0)
    state = State(step=step, row=4 * step, seconds=1 / 3, best_loss=0.7, sums=sums)
    return Checkpoint(
        weights={"a": torch.full((2, 3), value), "b": torch.tensor([1.0, float("-inf")])},
        optimizer={"steps": torch.tensor(float(step)), "mean.a": torch.full((2, 3), value / 3)},
        state=state,
    )


def steps_in(run: Path) -> list[str]:
    return sorted(path.name for path in (run / "checkpoints").iterdir())


def test_what_is_written_is_read_to_the_last_bit(tmp_path: Path) -> None:
    written = checkpoint(3)
    write_checkpoint(tmp_path, written, keep=1)
    read = read_checkpoint(tmp_path)
    assert read is not None
    for part in ("weights", "optimizer"):
        before, after = getattr(written, part), getattr(read, part)
        assert before.keys() == after.keys()
        assert all(torch.equal(before[name], after[name]) for name in before)
    assert (read.state.step, read.state.row, read.state.seconds, read.state.best_loss) == (3, 12, 1 / 3, 0.7)
    assert read.state.sums.read() == written.state.sums.read()
    assert read.state.sums.read()["generator"] == float(torch.tensor(1 / 3))


def test_sums_go_on_from_a_checkpoint_as_if_there_had_been_none(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, checkpoint(3), keep=1)
    read = read_checkpoint(tmp_path)
    assert read is not None
    more = Sums(*(torch.tensor(1 / 7) for _ in range(4)))
    assert (read.state.sums + more).read() == (checkpoint(3).state.sums + more).read()


def test_a_folder_without_a_run_has_no_checkpoint(tmp_path: Path) -> None:
    assert read_checkpoint(tmp_path) is None


def test_only_the_newest_checkpoints_are_kept(tmp_path: Path) -> None:
    for step in (2, 9, 10, 100):
        write_checkpoint(tmp_path, checkpoint(step), keep=2)
    assert steps_in(tmp_path) == ["step-00000010", "step-00000100"]
    assert (tmp_path / "latest").read_text(encoding="utf8") == "step-00000100\n"


def test_going_on_from_an_older_checkpoint_drops_the_newer_ones(tmp_path: Path) -> None:
    for step in (2, 9):
        write_checkpoint(tmp_path, checkpoint(step), keep=2)
    (tmp_path / "latest").write_text("step-00000002", encoding="utf8")
    write_checkpoint(tmp_path, checkpoint(4), keep=1)
    assert steps_in(tmp_path) == ["step-00000004"]


def test_the_same_step_can_be_written_again(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, checkpoint(3), keep=2)
    write_checkpoint(tmp_path, checkpoint(3, value=0.2), keep=2)
    read = read_checkpoint(tmp_path)
    assert read is not None
    assert torch.equal(read.weights["a"], torch.full((2, 3), 0.2))
    assert steps_in(tmp_path) == ["step-00000003"]


def test_a_checkpoint_that_a_crash_cut_off_is_not_used_and_goes(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, checkpoint(3), keep=2)
    left = tmp_path / "checkpoints" / ".partial-step-00000005"
    left.mkdir()
    (left / "weights.safetensors").write_bytes(b"half")
    read = read_checkpoint(tmp_path)
    assert read is not None
    assert read.state.step == 3
    write_checkpoint(tmp_path, checkpoint(4), keep=2)
    assert steps_in(tmp_path) == ["step-00000003", "step-00000004"]


FILES = ["weights.safetensors", "optimizer.safetensors", "state.json"]


def damage(path: Path, how: str) -> None:
    content = path.read_bytes()
    if how == "gone":
        path.unlink()
    elif how == "cut":
        path.write_bytes(content[:20])
    else:  # one bit of the last tensor, or of the state's closing bracket
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("how", ["gone", "cut", "one bit"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, how: str
) -> None:
    write_checkpoint(tmp_path, checkpoint(3), keep=2)
    damage(write_checkpoint(tmp_path, checkpoint(4), keep=2) / name, how)
    read = read_checkpoint(tmp_path)
    assert read is not None
    assert read.state.step == 3
    assert "step-00000004 is damaged and passed over" in caplog.text


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("step", "4", "step is '4', expected a number of a run"),
        ("step", True, "step is True"),
        ("step", -1, "step is -1"),
        ("row", 2.5, "row is 2.5"),
        ("seconds", float("nan"), "state.json is broken JSON"),
        ("best_loss", [1], r"best_loss is \[1\]"),
        ("sums", 5, "sums must be an object"),
        ("sums", {"generator": "much"}, "generator is 'much'"),
        ("further", 1, "further is 1"),
        ("sha256", {}, "must hold the checksums"),
        ("sha256", {"weights.safetensors": 5, "optimizer.safetensors": 5}, "was changed after it was written"),
    ],
)
def test_a_state_that_is_none_is_named_and_the_one_before_it_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, key: str, value: object, told: str
) -> None:
    write_checkpoint(tmp_path, checkpoint(3), keep=2)
    path = write_checkpoint(tmp_path, checkpoint(4), keep=2) / "state.json"
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf8")), key: value}), encoding="utf8")
    read = read_checkpoint(tmp_path)
    assert read is not None
    assert read.state.step == 3
    assert re.search(f"passed over: .*{told}", caplog.text)


def test_newer_checkpoints_than_the_one_that_is_pointed_at_are_not_used(tmp_path: Path) -> None:
    for step in (2, 3, 4):
        path = write_checkpoint(tmp_path, checkpoint(step), keep=3)
    (tmp_path / "latest").write_text("step-00000003\n", encoding="utf8")
    damage(path.with_name("step-00000003") / "weights.safetensors", "cut")
    read = read_checkpoint(tmp_path)
    assert read is not None
    assert read.state.step == 2


def test_a_newer_one_is_the_last_resort(tmp_path: Path) -> None:
    for step in (2, 3):
        write_checkpoint(tmp_path, checkpoint(step), keep=3)
    (tmp_path / "latest").write_text("step-00000002\n", encoding="utf8")
    damage(tmp_path / "checkpoints" / "step-00000002" / "weights.safetensors", "cut")
    read = read_checkpoint(tmp_path)
    assert read is not None
    assert read.state.step == 3


def test_a_whole_checkpoint_is_found_where_a_crash_came_before_the_pointer(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, checkpoint(3), keep=3)
    (tmp_path / "latest").unlink()
    assert has_checkpoint(tmp_path)
    read = read_checkpoint(tmp_path)
    assert read is not None
    assert read.state.step == 3


def test_a_checkpoint_whose_replacement_is_killed_is_the_old_or_the_new(
    killed_at_every_step: Callable[..., int],
) -> None:
    found = []

    def check(run: Path) -> None:
        read = read_checkpoint(run)
        assert read is not None
        found.append(round(float(read.weights["a"].unique()), 1))
        write_checkpoint(run, checkpoint(3, value=0.2), keep=3)
        assert [path.name for path in (run / "checkpoints").iterdir()] == ["step-00000003"]

    killed_at_every_step(
        lambda run: write_checkpoint(run, checkpoint(3, value=0.2), keep=3),
        prepare=lambda run: write_checkpoint(run, checkpoint(3, value=0.1), keep=3),
        check=check,
        every=2,
    )
    assert sorted(found) == found
    assert set(found) == {0.1, 0.2}


def test_where_all_are_damaged_nothing_is_read(tmp_path: Path) -> None:
    for step in (3, 4):
        damage(write_checkpoint(tmp_path, checkpoint(step), keep=2) / "weights.safetensors", "cut")
    with pytest.raises(ValueError, match=r"no checkpoint in .* can be read, the newest is step-00000004"):
        read_checkpoint(tmp_path)
