"""What only a graphics card can show; passed over on machines without one."""

from collections.abc import Callable

import pytest
import torch

from spacy_electra.data.store import Store
from spacy_electra.model.build import shim_of
from spacy_electra.training.compiling import compile_training
from spacy_electra.training.feeding import feeding
from spacy_electra.training.loop import Task, evaluate_dev, settle_portion, train_step
from spacy_electra.training.state import State

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA card")


@pytest.fixture
def task(make_task: Callable[..., Task]) -> Task:
    task = make_task(device=torch.device("cuda", 0), model={"precision": "auto"})
    settle_portion(task, State())
    return task


def test_a_step_waits_for_nothing_on_the_card(task: Task) -> None:
    with feeding(task.train, task.device, step=4) as feed:
        for first in (0, 4):  # the first allocates, and builds the optimizer
            rows = feed.batch(first, 4)
            torch.cuda.synchronize()
            torch.cuda.set_sync_debug_mode("error" if first else "default")
            try:
                train_step(task, rows)
            finally:
                torch.cuda.set_sync_debug_mode("default")
    assert shim_of(task.model).adamw_for(task.optimizer).steps == 2  # waiting raises, so both were taken


def test_a_card_learns_what_a_processor_does(
    make_task: Callable[..., Task], cyclic_store: Callable[..., Store]
) -> None:
    """Both see the same rows; rounding makes their ways part, not their ends."""
    corpus = cyclic_store(documents=40, words=600)
    losses = []
    for device, precision in (("cpu", "fp32"), ("cuda:0", "auto")):
        task = make_task(corpus=corpus, model={"precision": precision, "window": 32}, device=torch.device(device))
        settle_portion(task, State())
        task.optimizer.learn_rate = 0.003
        losses.append(evaluate_dev(task)["generator_loss"])
        for first in range(0, 1600, 16):
            train_step(task, task.train.batch(first, 16).to(task.device))
        losses.append(evaluate_dev(task)["generator_loss"])
    before, after, before_on_card, after_on_card = losses
    assert before_on_card == pytest.approx(before, rel=0.005)
    assert after < 0.95 * before
    assert after_on_card == pytest.approx(after, rel=0.1)


@pytest.mark.parametrize("micro_batch", [0, 2])
def test_compiled_steps_are_the_plain_ones(make_task: Callable[..., Task], micro_batch: int) -> None:
    plain, compiled = (
        make_task(device=torch.device("cuda", 0), model={"precision": "fp32"}, micro_batch=micro_batch)
        for _ in range(2)
    )
    for task in (plain, compiled):
        settle_portion(task, State())
    compile_training(shim_of(compiled.model))
    for first in range(0, 24, 4):  # CUDA graphs are recorded in the second and third step, and replayed from then on
        losses = [train_step(task, task.train.batch(first, 4).to(task.device)).read() for task in (plain, compiled)]
        assert losses[1] == pytest.approx(losses[0], rel=1e-3)
    assert shim_of(compiled.model).training_forward is not None
    assert shim_of(compiled.model).adamw_for(compiled.optimizer).steps == 6
    torch.compiler.reset()
