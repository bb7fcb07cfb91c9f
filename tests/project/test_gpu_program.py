"""The program for graphics cards, on the processor: it runs, and its figures are those of the programs it names."""

import json
import re
import shutil
import sys
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch._dynamo import register_backend

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import typer
from gpu import figures, small, train
from gpu_run import INTERVAL, Pace, make_context
from together import time_made

from spacy_electra.benchmark.measure import Timed
from spacy_electra.benchmark.ours import compiled_step, make_train_context, our_step
from spacy_electra.benchmark.shapes import PAIRS, full_rows
from spacy_electra.data.corpus.documents import Document
from spacy_electra.data.store.reader import Store
from spacy_electra.data.store.writer import build_store
from spacy_electra.data.tokenizer.wordpiece import WordPiece
from spacy_electra.training.compiling import compile_training
from spacy_electra.training.loop import Evaluation, StepResult
from spacy_electra.training.state import State

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")


def lack_of_memory() -> RuntimeError:
    return torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


@register_backend(name="refusing_benchmarks")
def refuse(module: object, inputs: object) -> object:
    raise RuntimeError("no program can be made")


def test_ours_is_timed_beside_the_reference(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small("cpu", rounds=2, rows=2, compiled=False, shape="tiny", minutes=60.0, json_path=tmp_path / "small.json")
    facts = json.loads((tmp_path / "small.json").read_text())
    assert json.loads(capsys.readouterr().out) == facts
    (row,) = facts["rows"]
    ours, reference = row["ours"]["pieces_a_second"], row["reference"]["pieces_a_second"]
    assert row["reference"]["ours_to_this"] == pytest.approx(ours / reference, rel=1e-2)
    assert 0 < row["ours"]["share_of_peak"] < 1
    assert row["took_turns"]
    assert row["reference"]["ran"]["attention"] in {"eager", "sdpa"}


def test_nothing_is_compared_with_ours_where_ours_does_not_fit() -> None:
    timed = Timed(units=[10.0], busy=[2.0], wall=[2.0])
    assert figures(timed, PAIRS["tiny"], {"tflops": 1.0}, ours=None)["ours_to_this"] is None
    assert figures(timed, PAIRS["tiny"], {"tflops": 1.0}, ours=timed)["ours_to_this"] == 1.0


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"shape": "huge"}, "--shape knows tiny, small, but got 'huge'"),
        ({"device": "cuda:99"}, "--device cuda:99, but torch .* sees [0-9]+ cards"),
        ({"device": "card"}, "--device card"),
        ({"device": "meta"}, "--device must be one of cpu, cuda, but got 'meta'"),
        ({"json_path": ROOT}, "cannot be written .is a folder"),
    ],
)
def test_what_would_fail_later_is_refused_at_once(changed: dict[str, Any], message: str) -> None:
    options = {"device": "cpu", "rounds": 2, "rows": 2, "compiled": False, "shape": "tiny", "json_path": None}
    with pytest.raises(typer.BadParameter, match=message):
        small(**{**options, **changed})


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
def test_both_are_timed_compiled_as_well(tmp_path: Path) -> None:
    small("cpu", rounds=2, rows=2, compiled=True, shape="tiny", minutes=60.0, json_path=tmp_path / "small.json")
    (row,) = json.loads((tmp_path / "small.json").read_text())["rows"]
    assert list(row) == ["what", "took_turns", "left_out", "ours", "ours, compiled", "reference", "reference, compiled"]
    assert row["ours, compiled"]["pieces_a_second"] > 0


class Program:
    """Counts its steps, and runs out of memory while more programs than `room` are there."""

    alive: ClassVar["weakref.WeakSet[Program]"] = weakref.WeakSet()

    def __init__(self, room: int):
        self.room, self.steps = room, 0
        self.alive.add(self)

    def __call__(self) -> float:
        if len(self.alive) > self.room:
            raise lack_of_memory()
        self.steps += 1
        return 1.0


def test_a_program_that_fits_nowhere_has_no_figures_and_the_others_do() -> None:
    found = time_made({"fits": lambda: Program(room=9), "never": lambda: Program(room=0)}, rounds=3, device=CPU)
    assert found.timed["never"] is None
    assert found.timed["fits"] is not None
    assert found.timed["fits"].units == [1.0] * 3
    assert found.took_turns  # all that fit


def test_programs_that_fit_one_by_one_are_timed_one_by_one() -> None:
    found = time_made({name: lambda: Program(room=1) for name in ("first", "second")}, rounds=3, device=CPU)
    assert [one.units for one in found.timed.values() if one is not None] == [[1.0] * 3] * 2
    assert not found.took_turns


def test_programs_that_fit_together_take_turns() -> None:
    assert time_made({name: lambda: Program(room=2) for name in ("first", "second")}, rounds=2, device=CPU).took_turns


def test_programs_that_time_is_short_for_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each look at the clock is ten seconds later: half of the time is for programs alone, the rest for turns."""
    monkeypatch.setattr("together.monotonic", iter(range(0, 1000, 10)).__next__)
    makes = {name: lambda: Program(room=9) for name in ("first", "second", "third")}
    found = time_made(makes, rounds=2, device=CPU, until=50.0)
    assert found.left_out == ("second", "third")  # at 10, 20 and 30 s alone, at 40 and 50 s for turns
    assert found.timed["first"] is not None
    assert found.timed["second"] is found.timed["third"] is None


def test_no_program_is_begun_without_time(tmp_path: Path) -> None:
    small("cpu", rounds=2, rows=2, compiled=False, shape="tiny", minutes=0.0, json_path=tmp_path / "small.json")
    (row,) = json.loads((tmp_path / "small.json").read_text())["rows"]
    assert row["left_out"] == ["ours", "reference"]
    assert not row["took_turns"]
    assert row["ours"] is row["reference"] is None


def test_an_error_that_is_no_lack_of_memory_is_raised() -> None:
    def make() -> Callable[[], float]:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="mat1"):
        time_made({"broken": make}, rounds=2, device=CPU)


def test_a_step_of_ours_that_runs_out_of_memory_has_no_figures() -> None:
    context = make_train_context(PAIRS["tiny"], dropout=0.0, precision="fp32", device=CPU)
    rows = full_rows(PAIRS["tiny"].discriminator.vocab, count=2)

    def run_out(network: object, inputs: object) -> object:
        raise lack_of_memory()

    context.model.shim.forward = run_out

    def make() -> Callable[[], float]:
        step = our_step(context)
        return lambda: step(rows) or 1.0

    assert time_made({"ours": make}, rounds=2, device=CPU).timed == {"ours": None}


def test_a_compiled_step_tells_when_it_had_to_do_without() -> None:
    context = make_train_context(PAIRS["tiny"], dropout=0.0, precision="fp32", device=CPU)
    rows = full_rows(PAIRS["tiny"].discriminator.vocab, count=2)
    told = []
    step = compiled_step(context, on_plain=lambda: told.append("plain"))
    for backend, expected in (("eager", []), ("refusing_benchmarks", ["plain"])):
        compile_training(context.model.shim, backend=backend)
        step(rows)
        assert told == expected
    torch.compiler.reset()


@pytest.fixture
def store(tmp_path: Path) -> Path:
    tokenizer = WordPiece.load(ROOT / "assets" / "electra-tiny" / "discriminator")
    text = "The library reads a small file and returns what stands in it, line by line. "
    documents = (Document(text=text * 20 + str(number), source="test.jsonl", line=number) for number in range(60))
    build_store(documents, tokenizer, tmp_path / "store")
    return tmp_path / "store"


def tiny_config(path: Path, **changed: str) -> Path:
    text = (ROOT / "configs" / "pretrain-tiny.cfg").read_text(encoding="utf8")
    for name, value in {"initialization": '"local"', **changed}.items():
        text, count = re.subn(rf"(?m)^{name} = .*$", f"{name} = {value}", text)
        assert count == 1
    path.write_text(text, encoding="utf8")
    return path


@pytest.mark.parametrize(("setting", "expected"), [("true", True), ("false", False), ('"auto"', False)])
def test_a_run_is_compiled_where_its_config_says_so(tmp_path: Path, store: Path, setting: str, expected: bool) -> None:
    config = tiny_config(tmp_path / "tiny.cfg", compile=setting)
    context = make_context(config, Store.open(store), minutes=0.1, device=CPU)
    assert (context.model.shim.training_forward is not None) == expected


def test_a_run_is_stopped_half_way_and_goes_on(tmp_path: Path, store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny_config(tmp_path / "tiny.cfg")
    train(store, tmp_path / "run", minutes=0.1, config=tmp_path / "tiny.cfg", device="cpu", json_path=None)
    first, second = json.loads(capsys.readouterr().out)["halves"]
    assert first["from_step"] == 0
    assert first["to_step"] == second["from_step"] < second["to_step"]
    assert second["scores"]["generator_loss"] > 0
    assert (tmp_path / "run" / "model-last" / "discriminator" / "model.safetensors").is_file()
    with pytest.raises(typer.BadParameter, match="holds a run that has spent 100% of its minutes"):
        train(store, tmp_path / "run", minutes=0.1, config=tmp_path / "tiny.cfg", device="cpu", json_path=None)


def test_the_pace_of_a_run_leaves_out_the_first_steps_and_evaluations() -> None:
    """Of 5 intervals the first compiles, an evaluation falls into the third."""
    pace, clock = Pace(CPU), []
    evaluation = Evaluation(losses={}, scores={}, gradient_norm=1.0, is_best=False)
    for step in range(1, 5 * INTERVAL + 2):
        state = State(step=step, row=8 * step)
        pace.see(
            StepResult(state, 0.0, epoch=0, learn_rate=0.0, evaluation=evaluation if step == 2.5 * INTERVAL else None)
        )
        clock.append(time.monotonic())
    assert [look.step for look in pace.looks] == [1, 21, 41, 50, 70, 90]
    assert pace.rows == 8 * 3 * INTERVAL
    assert 0 < pace.seconds <= clock[-1] - clock[0]
