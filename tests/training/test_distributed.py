"""Two ranks are one rank of twice the rows: the same steps, whoever computes them, and a run may change its number."""

import dataclasses
import importlib
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from types import ModuleType

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from spacy_electra.data.store.reader import Store
from spacy_electra.training.distributed import Ranks, join
from spacy_electra.training.state import State, Sums

WORKER = Path(__file__).with_name("ranks_worker.py")
Weights = dict[str, Tensor]


@pytest.fixture(scope="session")
def worker() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(WORKER.parent))  # as for a program of its own
        yield importlib.import_module("ranks_worker")


@pytest.fixture(scope="session")
def runs(store: Store, worker: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Weights]:
    """Weights by name: `one` rank or `two`, in float64 or float32; `resumed` changed between them twice."""
    folder = tmp_path_factory.mktemp("ranks")
    (folder / "resumed").mkdir()
    worker.whole_run(store, torch.float64, folder / "one64.safetensors")
    worker.whole_run(store, torch.float32, folder / "one32.safetensors", samples=folder / worker.SAMPLES)
    worker.part_of_a_run(store, folder / "resumed", until=worker.FIRST_STOP)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*launch, str(WORKER), str(store.directory), str(folder)], capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    worker.part_of_a_run(store, folder / "resumed", until=worker.STEPS)
    last = folder / "resumed" / "checkpoints" / f"step-{worker.STEPS:08d}" / "weights.safetensors"
    files = {name: folder / f"{name}.safetensors" for name in ("one64", "one32", "two64", "two32")}
    return {name: load_file(path) for name, path in {**files, "resumed": last}.items()}


def difference(one: Weights, other: Weights) -> float:
    """The largest, over all weights."""
    shared = (one.keys() & other.keys()) - {"losses"}
    assert len(shared) > 30
    return max(float((one[name] - other[name]).abs().max()) for name in shared)


def test_two_ranks_take_the_steps_of_one_in_float64(runs: dict[str, Weights]) -> None:
    assert difference(runs["one64"], runs["two64"]) < 1e-9
    assert difference(runs["one64"], runs["one32"]) > 1e-9  # what the bound is able to tell apart


def test_two_ranks_take_the_steps_of_one_in_float32_on_the_same_samples(runs: dict[str, Weights]) -> None:
    assert difference(runs["one32"], runs["two32"]) < 1e-5


def test_losses_are_those_of_all_ranks(runs: dict[str, Weights]) -> None:
    torch.testing.assert_close(runs["two64"]["losses"], runs["one64"]["losses"], rtol=1e-6, atol=0)


def test_a_run_may_go_on_with_two_ranks_and_back_with_one(runs: dict[str, Weights]) -> None:
    assert difference(runs["one64"], runs["resumed"]) < 1e-9


@pytest.mark.parametrize(("size", "shares"), [(1, [(0, 5)]), (2, [(0, 2), (2, 3)]), (3, [(0, 1), (1, 2), (3, 2)])])
def test_ranks_share_all_rows_of_a_step(size: int, shares: list[tuple[int, int]]) -> None:
    assert [Ranks(rank, size).share(5) for rank in range(size)] == shares


def test_a_process_on_its_own_exchanges_nothing() -> None:
    alone = join()
    state = State(step=3, row=12, seconds=1.5, best_loss=None, sums=Sums(generator=torch.tensor(2.0)))
    assert alone == Ranks(rank=0, size=1)
    assert alone.spread_state(state) is state
    assert (alone.any(True), alone.any(False)) == (True, False)


def test_ranks_that_never_met_hear_of_no_lost_run(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "WORLD_SIZE": "2",
        "RANK": "1",
        "LOCAL_RANK": "1",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": "1",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("spacy_electra.training.distributed.TIMEOUT", timedelta(seconds=1))
    with pytest.raises(
        ConnectionError, match=r"rank 1 did not meet the others at 127\.0\.0\.1:1, so nothing has begun"
    ):
        join()


def test_fewer_rows_than_ranks_are_refused(make_context) -> None:
    with pytest.raises(ValueError, match="batch_rows is 4, too few for 5 processes"):
        dataclasses.replace(make_context(), ranks=Ranks(rank=0, size=5))


@pytest.mark.parametrize(("rows", "most"), [(4, 1), (5, 2), (9, 3), (12, 3)])
def test_no_rank_takes_more_rows_than_the_largest_share(rows: int, most: int) -> None:
    ranks = [Ranks(rank, 4) for rank in range(4)]
    assert max(rank.share(rows)[1] for rank in ranks) == most
    assert {rank.largest_share(rows) for rank in ranks} == {most}
