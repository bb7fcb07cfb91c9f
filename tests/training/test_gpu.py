"""What only a graphics card can show; passed over on machines without one."""

from collections.abc import Callable

import pytest
import torch

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


def test_a_card_learns_what_a_processor_does(task: Task, make_task: Callable[..., Task]) -> None:
    other = make_task(model={"precision": "fp32"})
    shim_of(other.model).module.load_state_dict(shim_of(task.model).module.state_dict())
    before = evaluate_dev(other)["generator_loss"]
    for one in (task, other):
        one.optimizer.learn_rate = 0.01
        for first in range(0, 400, 4):
            train_step(one, one.train.batch(first, 4).to(one.device))
    after = evaluate_dev(other)["generator_loss"]
    assert after < 0.9 * before
    assert evaluate_dev(task)["generator_loss"] == pytest.approx(after, rel=0.02)


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
