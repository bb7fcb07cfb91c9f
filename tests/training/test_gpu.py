"""What only a graphics card can show; passed over on machines without one."""

from collections.abc import Callable

import pytest
import torch

from spacy_electra.data.store.reader import Store
from spacy_electra.training.compiling import compile_training
from spacy_electra.training.context import RunContext
from spacy_electra.training.loop import evaluate_dev
from spacy_electra.training.micro_batches import settle_micro_batch
from spacy_electra.training.prefetch import feeding
from spacy_electra.training.state import State
from spacy_electra.training.step import train_step

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA card")


@pytest.fixture
def context(make_context: Callable[..., RunContext]) -> RunContext:
    context = make_context(device=torch.device("cuda", 0), model={"precision": "auto"})
    settle_micro_batch(context, State())
    return context


def test_a_step_waits_for_nothing_on_the_card(context: RunContext) -> None:
    with feeding(context.train, context.device, step=4) as feed:
        for first in (0, 4):  # the first allocates, and builds the optimizer
            rows = feed.batch(first, 4)
            torch.cuda.synchronize()
            torch.cuda.set_sync_debug_mode("error" if first else "default")
            try:
                train_step(context, rows)
            finally:
                torch.cuda.set_sync_debug_mode("default")
    assert context.model.shim.steps.adamw_for(context.optimizer).steps == 2  # waiting raises, so both were taken


def test_a_card_learns_what_a_processor_does(
    make_context: Callable[..., RunContext], cyclic_store: Callable[..., Store]
) -> None:
    """Both see the same rows; rounding makes their ways part, not their ends."""
    corpus = cyclic_store(documents=40, words=600)
    losses = []
    for device, precision in (("cpu", "fp32"), ("cuda:0", "auto")):
        context = make_context(corpus=corpus, model={"precision": precision, "window": 32}, device=torch.device(device))
        settle_micro_batch(context, State())
        context.optimizer.learn_rate = 0.003
        losses.append(evaluate_dev(context)["generator_loss"])
        for first in range(0, 1600, 16):
            train_step(context, context.train.batch(first, 16).to(context.device))
        losses.append(evaluate_dev(context)["generator_loss"])
    before, after, before_on_card, after_on_card = losses
    assert before_on_card == pytest.approx(before, rel=0.005)
    assert after < 0.95 * before
    assert after_on_card == pytest.approx(after, rel=0.1)


@pytest.mark.parametrize("micro_batch_size", [0, 2])
def test_compiled_steps_are_the_plain_ones(make_context: Callable[..., RunContext], micro_batch_size: int) -> None:
    plain, compiled = (
        make_context(device=torch.device("cuda", 0), model={"precision": "fp32"}, micro_batch_size=micro_batch_size)
        for _ in range(2)
    )
    for context in (plain, compiled):
        settle_micro_batch(context, State())
    compile_training(compiled.model.shim)
    for first in range(0, 24, 4):  # CUDA graphs are recorded in the second and third step, and replayed from then on
        losses = [
            train_step(context, context.train.batch(first, 4).to(context.device)).read()
            for context in (plain, compiled)
        ]
        assert losses[1] == pytest.approx(losses[0], rel=1e-3)
    assert compiled.model.shim.training_forward is not None
    assert compiled.model.shim.steps.adamw_for(compiled.optimizer).steps == 6
    torch.compiler.reset()
