"""Pretraining in a process that has set torch otherwise is what it is alone, to the bit."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest
import torch

from spacy_electra.training.context import RunContext
from spacy_electra.training.loop import pretrain
from spacy_electra.training.state import State

MakeContext = Callable[..., RunContext]
Around = Callable[[], AbstractContextManager[object]]


@contextmanager
def having(setter: Callable[[object], object], value: object, before: object) -> Iterator[None]:
    setter(value)
    try:
        yield
    finally:
        setter(before)


AROUND: dict[str, Around] = {
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "inference mode": torch.inference_mode,
    "default dtype float64": lambda: having(torch.set_default_dtype, torch.float64, torch.float32),
    "default dtype bfloat16": lambda: having(torch.set_default_dtype, torch.bfloat16, torch.float32),
    "default device meta": lambda: having(torch.set_default_device, "meta", None),
}


def course_of(context: RunContext) -> list[object]:
    evaluations = [result.evaluation for result in pretrain(context, State()) if result.evaluation]
    return [(evaluation.losses, evaluation.scores, evaluation.gradient_norm) for evaluation in evaluations]


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("name", AROUND)
def test_what_a_process_has_set_in_torch_changes_no_bit_of_a_run(
    make_context: MakeContext, name: str, precision: str
) -> None:
    model = {"precision": precision, "dropout": 0.1, "initialization": "local"}
    alone = course_of(make_context(model=model))
    with AROUND[name]():
        assert course_of(make_context(model=model)) == alone
