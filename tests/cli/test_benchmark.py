"""What benchmarks run is what they say they run."""

import json
import os
from collections.abc import Callable
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch
from spacy.cli._util import app
from typer.testing import CliRunner

from spacy_electra.benchmark.apart import in_turn_apart
from spacy_electra.benchmark.measure import Step, Timed, in_turn, ratio
from spacy_electra.benchmark.ours import bare_step, make_train_context, our_step
from spacy_electra.benchmark.pretrain_programs import Case, batches, ours
from spacy_electra.benchmark.report import open_report
from spacy_electra.benchmark.shapes import (
    PAIRS,
    SPECIAL,
    full_rows,
    packed_rows,
    padded_rows,
    short_documents,
)
from spacy_electra.cli.benchmark_pretrain import check_device, unit_of

CPU = torch.device("cpu")


@pytest.mark.parametrize(("name", "megaflops"), [("tiny", 8.1), ("small", 70.2)])
def test_the_work_of_a_step_is_that_of_its_matrix_products(name: str, megaflops: float) -> None:
    assert PAIRS[name].train_flops / 1e6 == pytest.approx(megaflops, abs=0.06)  # counted apart from this program


def test_packed_rows_hold_the_documents_without_padding() -> None:
    documents = short_documents(8000, count=16)
    packed, padded = packed_rows(documents), padded_rows(documents)
    pieces = torch.cat(documents)
    assert packed.is_real.all()
    assert torch.equal(packed.ids.flatten(), pieces[: packed.ids.numel()])
    assert 0.4 < padded.is_real.float().mean() < 0.8
    begins = packed.positions == 0
    assert torch.equal(begins[:, 1:], packed.ids[:, 1:] == SPECIAL.cls)
    assert begins[:, 0].all()
    assert torch.equal(packed.positions[:, 1:][~begins[:, 1:]], packed.positions[:, :-1][~begins[:, 1:]] + 1)


def test_the_bare_loop_takes_the_same_steps_as_thinc() -> None:
    learners = [make_train_context(PAIRS["tiny"], dropout=0.0, precision="fp32", device=CPU) for _ in range(2)]
    before = learners[0].model.network.state_dict()["embeddings.word.weight"].clone()
    steps = our_step(learners[0]), bare_step(learners[1])
    for first in (0, 1000):
        for step in steps:
            step(full_rows(8000, first=first, count=2))
    wrapped, bare = (context.model.network.state_dict() for context in learners)
    assert not torch.equal(before, wrapped["embeddings.word.weight"])
    for name, tensor in wrapped.items():
        torch.testing.assert_close(bare[name], tensor, rtol=0, atol=1e-6)


def test_programs_take_turns_and_warm_up_is_not_counted() -> None:
    calls: list[str] = []
    programs = {name: (lambda name=name: calls.append(name) or 3.0) for name in ("a", "b")}
    timed = in_turn(programs, rounds=2, device=CPU, warm_up=1)
    assert calls == ["a", "b"] * 3
    assert timed["a"].units == [3.0, 3.0]


def test_programs_in_processes_of_their_own_do_the_same_work() -> None:
    build = partial(ours, Case(shape="tiny", precision="fp32"))
    timed = in_turn_apart({"a": build, "b": build}, rounds=1, device=CPU, threads=1, warm_up=0)
    assert timed["a"].units == timed["b"].units == [2048.0]
    assert min(timed["a"].busy[0], timed["b"].busy[0]) > 0
    assert timed["a"].facts == timed["b"].facts == {"precision": "fp32"}


def take_memory_at_the_third_step() -> Step:
    turn = count()
    return lambda: float(torch.ones(75_000_000 if next(turn) == 2 else 1)[0])  # 0.3 GB


def take_little_memory() -> Step:
    return lambda: 1.0


def test_memory_is_the_highest_of_all_steps_of_a_program_and_of_it_alone() -> None:
    builds = {"hungry": take_memory_at_the_third_step, "frugal": take_little_memory}
    timed = in_turn_apart(builds, rounds=2, device=CPU, threads=1, warm_up=1)
    hungry, frugal = timed["hungry"].memory, timed["frugal"].memory
    assert hungry is not None
    assert frugal is not None
    assert hungry - frugal == pytest.approx(0.3, abs=0.05)


def test_packed_and_padded_programs_take_as_many_rows_of_the_same_kind_of_documents() -> None:
    padded, packed = (batches(Case(shape="tiny", precision="fp32", rows=kind)) for kind in ("padded", "packed"))
    assert [len(rows) for rows in packed] == [len(rows) for rows in padded] == [16] * len(packed)
    assert all(rows.is_real.all() for rows in packed)
    begins = sum(int((rows.ids == SPECIAL.cls).sum()) for rows in packed)
    assert 65 < sum(rows.ids.numel() for rows in packed) / begins < 80  # documents are 72 pieces on average


def test_a_program_that_fails_in_its_process_says_why() -> None:
    build = partial(ours, Case(shape="tiny", precision="fp12"))
    with pytest.raises(ChildProcessError, match="'a' failed: ValueError: precision must be one of"):
        in_turn_apart({"a": build}, rounds=1, device=CPU, threads=1)


def end_at_the_third_step() -> Step:
    turn = count()
    return lambda: os._exit(1) if next(turn) == 2 else 1.0


def test_a_program_that_ends_in_mid_benchmark_is_named() -> None:
    with pytest.raises(ChildProcessError, match="the program 'a' ended in the middle of a benchmark"):
        in_turn_apart({"a": end_at_the_third_step}, rounds=3, device=CPU, threads=1)


def test_a_ratio_compares_the_fastest_steps_and_shows_the_spread() -> None:
    ours = Timed(units=[10.0, 10.0], busy=[1.0, 2.0], wall=[1.0, 2.0], memory=None)
    theirs = Timed(units=[10.0, 10.0], busy=[4.0, 5.0], wall=[4.0, 5.0], memory=None)
    found = ratio(ours, theirs)
    assert (found.best, found.low, found.high) == (4.0, 2.5, 4.0)


def test_rates_are_counted_in_seconds_of_the_processor_or_of_a_cards_clock() -> None:
    assert unit_of("pieces", CPU) == "pieces per CPU-second"
    assert unit_of("pieces", torch.device("cuda")) == "pieces per second"


def test_devices_that_cannot_be_timed_are_refused() -> None:
    check_device(torch.device("cuda", 1))
    with pytest.raises(ValueError, match="on the CPU or on NVIDIA cards, but --gpu-id chose torch's device 'mps'"):
        check_device(torch.device("mps"))


def test_a_program_says_in_which_precision_it_ran() -> None:
    program = ours(Case(shape="tiny", precision="bf16"))
    assert in_turn({"a": program}, rounds=1, device=CPU, warm_up=0)["a"].facts == {"precision": "bf16"}


def test_a_report_is_whole_after_every_row(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.json"
    report = open_report(path, {"machine": "one", "rows": []})
    for number in range(3):
        assert json.loads(path.read_text(encoding="utf8")) == {"machine": "one", "rows": list(range(number))}
        report.add("rows", number)


def test_a_report_is_written_through_a_link(tmp_path: Path) -> None:
    """Such as /dev/stdout, which would otherwise be a plain file from then on."""
    (tmp_path / "link").symlink_to(tmp_path / "a.json")
    open_report(tmp_path / "link", {"rows": []}).add("rows", 1)
    assert (tmp_path / "link").is_symlink()
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf8")) == {"rows": [1]}


@pytest.mark.slow
def test_the_command_writes_its_table(tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    arguments = [
        "electra",
        "benchmark",
        "pretrain",
        "--sizes",
        "tiny",
        "--rounds",
        "2",
        "--json",
        str(tmp_path / "a.json"),
    ]
    result = CliRunner().invoke(app, arguments, prog_name="python -m spacy")
    torch.set_num_threads(threads)
    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / "a.json").read_text(encoding="utf8"))
    kept = [row for row in report["rows"] if "both keep freed memory" in row["what"]]
    assert kept
    assert len(report["rows"]) - len(kept) == 6
    for row in report["rows"]:
        assert row["ratio"] == pytest.approx(row["ours"] / row["theirs"])
    assert 0 < report["peaks"][0]["share"] < 1


def test_a_report_that_cannot_be_written_is_refused_before_anything_is_measured(
    complaint: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    message = complaint("benchmark", "pretrain", "--json", tmp_path / "file" / "a.json")
    assert "--json" in message
    assert "cannot be written" in message


def test_an_unknown_size_is_refused() -> None:
    result = CliRunner().invoke(app, ["electra", "benchmark", "pretrain", "--sizes", "huge"])
    assert result.exit_code != 0
    assert "--sizes knows tiny, small, but got 'huge'" in result.output
