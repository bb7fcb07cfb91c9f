"""Rows at once: what fits, worked by hand, and out of memory made to happen."""

import logging
import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from spacy_electra.training.context import RunContext
from spacy_electra.training.loop import pretrain
from spacy_electra.training.memory import (
    MicroBatchSize,
    even_micro_batch,
    free_memory,
    is_out_of_memory,
    kept_bytes,
    rows_that_fit,
    step_bytes,
    within_memory,
)
from spacy_electra.training.micro_batches import _kept, settle_micro_batch
from spacy_electra.training.state import State
from spacy_electra.training.step import train_step

MakeContext = Callable[..., RunContext]
WeightsOf = Callable[[RunContext], dict[str, Tensor]]


def out_of_memory() -> RuntimeError:
    return torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nMore lines.")


def test_the_rows_that_fit_take_two_fifths_of_what_is_free() -> None:
    # one row keeps 100 + 50 bytes, each further one 50: (1000 * 2 / 5 - 150) / 50 = 5 more
    assert rows_that_fit(lambda rows: 100 + 50 * rows, free=1000, most=64) == 6


def test_a_step_holds_gradients_and_two_moments_of_all_that_learns() -> None:
    layers = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Linear(8, 2).requires_grad_(False))
    assert step_bytes(layers) == 3 * 4 * (4 * 8 + 8)


@pytest.mark.parametrize(("free", "most", "expected"), [(10**9, 64, 64), (0, 64, 1), (10**9, 1, 1)])
def test_no_more_rows_than_there_are_and_no_fewer_than_one(free: int, most: int, expected: int) -> None:
    assert rows_that_fit(lambda rows: 100 + 50 * rows, free=free, most=most) == expected


@pytest.mark.parametrize(("rows", "most", "expected"), [(128, 100, 64), (128, 128, 128), (10, 4, 4), (9, 4, 3)])
def test_parts_are_as_few_as_can_be_and_about_alike(rows: int, most: int, expected: int) -> None:
    assert even_micro_batch(rows, most=most) == expected


def test_work_that_runs_out_of_memory_is_done_again_with_half_the_rows(caplog: pytest.LogCaptureFixture) -> None:
    micro_batch, tried, forgotten = MicroBatchSize(9), [], []

    def work() -> str:
        tried.append(micro_batch.rows)
        if micro_batch.rows > 3:
            raise out_of_memory()
        return "done"

    with caplog.at_level(logging.WARNING, logger="spacy_electra"):
        assert within_memory(micro_batch, work, forget=lambda: forgotten.append(micro_batch.rows)) == "done"
    assert tried == [9, 5, 3]
    assert forgotten == [9, 5]
    assert [record.getMessage().split(" (")[0] for record in caplog.records] == [
        "out of memory: continuing with 5 rows at a time",
        "out of memory: continuing with 3 rows at a time",
    ]


def test_a_single_row_that_does_not_fit_ends_with_what_to_do() -> None:
    def work() -> None:
        raise out_of_memory()

    with pytest.raises(ValueError, match=r"a single row .* model\.activation_checkpointing"):
        within_memory(MicroBatchSize(1), work, forget=lambda: None)


@pytest.mark.parametrize(
    "words",
    [
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
        "CUDA driver error: out of memory",
        "Triton Error [CUDA]: out of memory",
        "MPS backend out of memory (MPS allocated: 9.00 GB, other allocations: 0 bytes, max allowed: 9.07 GB).",
        "[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory",
    ],
)
def test_whoever_runs_out_of_memory_is_understood(words: str) -> None:
    assert is_out_of_memory(RuntimeError(words))


def test_another_error_is_not_taken_for_a_lack_of_memory() -> None:
    def work() -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="mat1"):
        within_memory(MicroBatchSize(4), work, forget=lambda: None)


def test_a_step_that_runs_out_of_memory_ends_as_one_in_smaller_portions(
    make_context: MakeContext, weights_of: WeightsOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    small, large = make_context(micro_batch_size=2), make_context(micro_batch_size=4)
    for context in (small, large):
        settle_micro_batch(context, State())
    shim = large.model.shim
    begin, passes = shim.begin_update, []

    def begin_in_little_memory(inputs: object) -> object:
        rows = len(inputs[0].rows)  # type: ignore[index]
        passes.append(rows)
        if rows > 2 or len(passes) == 3:  # the whole, then the second half
            raise out_of_memory()
        return begin(inputs)

    monkeypatch.setattr(shim, "begin_update", begin_in_little_memory)
    rows = small.train.batch(0, 4)
    train_step(large, rows)
    assert passes == [4, 2, 2, 1, 1, 1, 1]
    train_step(small, rows)
    after = weights_of(small)
    for name, weights in weights_of(large).items():
        torch.testing.assert_close(weights, after[name], rtol=1e-4, atol=1e-6)


def test_moments_have_their_place_before_the_first_pass(
    make_context: MakeContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = make_context()
    shim = context.model.shim
    begin, placed = shim.begin_update, []

    def begin_and_look(inputs: object) -> object:
        placed.append(shim.steps._adamw is not None)
        return begin(inputs)

    monkeypatch.setattr(shim, "begin_update", begin_and_look)
    next(pretrain(context, State()))
    assert placed == [True]


def test_scores_that_run_out_of_memory_are_taken_with_fewer_rows(
    make_context: MakeContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    context, plain = make_context(max_steps=1), make_context(max_steps=1)
    *_, expected = pretrain(plain, State())
    shim = context.model.shim
    predict, passes = shim.predict, []

    def predict_in_little_memory(inputs: object) -> object:
        passes.append(len(inputs[0].rows))  # type: ignore[index]
        if passes[-1] > 2:
            raise out_of_memory()
        return predict(inputs)

    monkeypatch.setattr(shim, "predict", predict_in_little_memory)
    *_, result = pretrain(context, State())
    assert passes[:2] == [4, 2]
    assert result.evaluation is not None
    assert expected.evaluation is not None
    assert result.evaluation.scores == pytest.approx(expected.evaluation.scores, rel=1e-4)


def test_ranks_on_one_processor_take_equal_parts_of_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spacy_electra.training.memory.memory_left", lambda: 4000)
    assert free_memory(torch.device("cpu")) == 4000
    for name, value in {"WORLD_SIZE": 8, "LOCAL_WORLD_SIZE": 4, "LOCAL_RANK": 1}.items():
        monkeypatch.setenv(name, str(value))
    assert free_memory(torch.device("cpu")) == 1000


def test_a_run_remembers_its_rows_at_once(make_context: MakeContext) -> None:
    context = make_context(micro_batch_size=3)
    *_, last = pretrain(context, State())
    assert last.state.micro_batch_size == 3
    again, changed = make_context(micro_batch_size=3), make_context(micro_batch_size=0)
    shrunk = last.state.moved(micro_batch_size=2)  # as after a lack of memory
    for context, rows in ((again, 2), (changed, 4)):
        settle_micro_batch(context, shrunk)
        assert context.micro_batch.rows == rows


def test_auto_takes_all_rows_where_there_is_room(make_context: MakeContext) -> None:
    context = make_context(micro_batch_size="auto")
    settle_micro_batch(context, State())
    assert context.micro_batch.rows == 4


def test_auto_takes_fewer_where_there_is_little(make_context: MakeContext, monkeypatch: pytest.MonkeyPatch) -> None:
    context = make_context(micro_batch_size="auto", batch_rows=64)
    monkeypatch.setattr("spacy_electra.training.micro_batches.free_memory", lambda device: 4 * 2**20)
    settle_micro_batch(context, State())
    assert 1 <= context.micro_batch.rows < 64


def test_finding_what_fits_leaves_the_run_as_it_was(make_context: MakeContext, weights_of: WeightsOf) -> None:
    auto, whole = make_context(micro_batch_size="auto"), make_context(micro_batch_size=0)
    for context in (auto, whole):
        list(pretrain(context, State()))
    after = weights_of(whole)
    assert all(torch.equal(weights, after[name]) for name, weights in weights_of(auto).items())


def test_what_a_pass_keeps_is_counted_without_the_weights() -> None:
    layer = torch.nn.Linear(4, 8)
    x = torch.ones(10, 4, requires_grad=True)
    assert kept_bytes(lambda: layer(x).tanh(), layer) == 10 * 4 * 4 + 10 * 8 * 4  # the input and the output


def test_checkpointed_blocks_keep_less(make_context: MakeContext) -> None:
    kept = {}
    for is_on in (False, True):
        context = make_context(model={"activation_checkpointing": is_on, "discriminator": DEEP, "generator": None})
        settle_micro_batch(context, State())
        kept[is_on] = _kept(context, 4) - _kept(context, 2)
    assert kept[True] < kept[False] / 2


DEEP = {"layers": 6, "width": 16, "feed_forward": 64, "heads": 2, "embedding": 16}


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_checkpointed_blocks_give_the_same_gradients(
    make_context: MakeContext, weights_of: WeightsOf, dropout: float
) -> None:
    weights = []
    for is_on in (False, True):
        context = make_context(model={"activation_checkpointing": is_on, "dropout": dropout}, max_steps=3)
        assert any(getattr(module, "is_recomputed", False) for module in context.model.network.modules()) == is_on
        list(pretrain(context, State()))
        weights.append(weights_of(context))
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


LIMITED = """
import resource, torch
from spacy_electra.training.memory import MicroBatchSize, within_memory
torch.set_num_threads(1)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 200 * 2**20, resource.RLIM_INFINITY))
micro_batch = MicroBatchSize(64)
within_memory(micro_batch, lambda: torch.ones(micro_batch.rows, 2**20), forget=lambda: None)  # 4 MiB a row
print(micro_batch.rows)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits memory as Linux does")
def test_torch_on_a_cpu_that_runs_out_of_memory_is_understood() -> None:
    done = subprocess.run([sys.executable, "-c", LIMITED], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout.strip()) == (0, "32"), done.stderr
