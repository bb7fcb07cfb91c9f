"""What runs share is made once, gone on with after an interrupt, and its costs are added up."""

import json
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from ladder_cache import (
    COST,
    PRETRAINING,
    PROCESS,
    TEXT,
    UNCOUNTED,
    Cache,
    Preparation,
    Step,
    add_cost,
    claimed,
    read_cost,
    run_in,
)

COUNT = "import sys, pathlib; path = pathlib.Path(sys.argv[1]); path.write_text(path.read_text() + 'x')"


def counting(counter: Path, *, name: str = "a", minutes: float = 1.0, **settings: object) -> Preparation:
    """A preparation whose step adds a letter to a file."""
    counter.touch()
    phase = settings.pop("phase", PRETRAINING)
    return Preparation(
        name,
        {"minutes": minutes},
        lambda folder, cache: [Step("count", str(phase), ["-I", "-S", "-c", COUNT, str(counter)])],
        product="out",
        **settings,  # type: ignore[arg-type]
    )


def test_what_is_made_is_not_made_again(tmp_path: Path) -> None:
    cache, one = Cache(tmp_path / "made"), counting(tmp_path / "counter")
    assert not cache.is_ready(one)
    assert cache.ready(one) == cache.ready(one) == cache.folder(one) / "out"
    assert cache.is_ready(one)
    assert (tmp_path / "counter").read_text() == "x"


def test_other_settings_and_other_needs_are_made_apart(tmp_path: Path) -> None:
    one, other = (counting(tmp_path / "counter", minutes=minutes) for minutes in (1.0, 2.0))
    above = [counting(tmp_path / "counter", name="b", needs=(need,)) for need in (one, other)]
    assert len({preparation.folder_name for preparation in (one, other, *above)}) == 4
    assert counting(tmp_path / "another").fingerprint == one.fingerprint  # the name of a file changes nothing


def test_needs_are_made_before(tmp_path: Path) -> None:
    cache, one = Cache(tmp_path / "made"), counting(tmp_path / "counter")
    cache.ready(counting(tmp_path / "above", name="b", needs=(one,)))
    assert cache.is_ready(one)


def test_costs_are_those_of_all_needs_each_once(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "made")
    text = counting(tmp_path / "text", name="text", phase=TEXT)
    both = [counting(tmp_path / name, name=name, needs=(text,)) for name in ("b", "c")]
    top = counting(tmp_path / "top", name="top", needs=tuple(both), phase=UNCOUNTED)
    cache.ready(top)
    for preparation, phase, seconds in ((text, TEXT, 1.0), (both[0], PRETRAINING, 20.0), (both[1], PRETRAINING, 300.0)):
        (cache.folder(preparation) / COST).write_text(json.dumps({phase: seconds}))
    assert cache.seconds(top) == {TEXT: 1.0, PRETRAINING: 320.0}
    assert read_cost(cache.folder(top)) == {}


def test_what_failed_is_told_with_its_log_and_begun_again_at_the_same_place(tmp_path: Path) -> None:
    cache, door = Cache(tmp_path / "made"), tmp_path / "door"
    program = "import sys, pathlib; print('no door'); sys.exit(not pathlib.Path(sys.argv[1]).exists())"

    def steps(folder: Path, cache: Cache) -> list[Step]:
        return [Step("open", PRETRAINING, ["-I", "-S", "-c", program, str(door)])]

    one = Preparation("a", {}, steps, product="")
    with pytest.raises(ValueError, match=r"status 1, its log .*open\.log with\nno door"):
        cache.ready(one)
    assert not cache.is_ready(one)
    add_cost(cache.folder(one), {}, PRETRAINING, 100.0)  # what an interrupted try had used
    door.touch()
    cache.ready(one)
    assert read_cost(cache.folder(one))[PRETRAINING] > 100.0


def test_a_program_whose_ladder_was_killed_is_waited_for(tmp_path: Path) -> None:
    sleeper = subprocess.Popen([sys.executable, "-I", "-S", "-c", "import time; time.sleep(600)"])
    try:
        record = {"pid": sleeper.pid, "created": psutil.Process(sleeper.pid).create_time()}
        (tmp_path / PROCESS).write_text(json.dumps(record))
        with pytest.raises(ValueError, match=f"process {sleeper.pid} is still at work in"), claimed(tmp_path):
            pass
    finally:
        sleeper.kill()
        sleeper.wait()
    with claimed(tmp_path):
        assert not (tmp_path / PROCESS).exists()


def test_a_process_is_named_while_it_works(tmp_path: Path) -> None:
    program = "import pathlib, sys, os; assert str(os.getpid()) in pathlib.Path(sys.argv[1]).read_text()"
    wait = "import time; time.sleep(0.5); "
    assert run_in(tmp_path, ["-I", "-S", "-c", wait + program, str(tmp_path / PROCESS)], log="log") > 0
    assert not (tmp_path / PROCESS).exists()


def test_a_number_that_another_process_has_now_holds_nothing_up(tmp_path: Path) -> None:
    (tmp_path / PROCESS).write_text(json.dumps({"pid": os.getpid(), "created": 1.0}))
    with claimed(tmp_path):
        assert not (tmp_path / PROCESS).exists()
