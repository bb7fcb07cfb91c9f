"""The programs of `benchmark pretrain`. Each is built from names and numbers only, so any process can build it."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Literal

import torch

from spacy_electra.benchmark.measure import Program, Step, matrix_product
from spacy_electra.benchmark.ours import StepOnRows, bare_step, compiled_step, make_train_context, our_step
from spacy_electra.benchmark.reference import ReferenceStep
from spacy_electra.benchmark.shapes import PAIRS, ROWS, full_rows, packed_rows, padded_rows, short_documents
from spacy_electra.data.batch import Rows
from spacy_electra.model.precision import PRECISIONS
from spacy_electra.training.context import TrainContext
from spacy_electra.training.malloc import keep_freed_memory

BATCHES = 8  # different ones, used in turn
Kind = Literal["full", "packed", "padded"]  # a document of 16 to 128 pieces a row, or as many as fit into as many rows


@dataclass(frozen=True)
class Case:
    """Shape, precision, rows and device of a program."""

    shape: str  # of `PAIRS`
    precision: str
    dropout: float = 0.0
    rows: Kind = "full"
    device: str = "cpu"


def ours(case: Case, *, compiled: bool = False) -> Step:
    """A program that takes this package's training step.

    compiled: with compiled passes, as `pretrain` has them on GPUs.
    """
    if not compiled:
        return _with_our_settings(case, our_step, {"precision": case.precision})
    facts = {"precision": case.precision, "compiled": "yes"}
    make = partial(compiled_step, on_plain=lambda: facts.update(compiled="no, it failed"))
    return _with_our_settings(case, make, facts)


def bare(case: Case) -> Step:
    """A program that takes the same step without thinc."""
    return _with_our_settings(case, bare_step, {"precision": case.precision})


def _with_our_settings(case: Case, make: Callable[[TrainContext], StepOnRows], facts: dict[str, str]) -> Step:
    device = torch.device(case.device)
    if device.type == "cpu":
        keep_freed_memory()  # as `pretrain` does
    context = make_train_context(PAIRS[case.shape], dropout=case.dropout, precision=case.precision, device=device)
    return Program(on(make(context), batches(case)), facts)


def theirs(case: Case, *, compiled: bool = False, keeps_memory: bool = False) -> Step:
    """A program that takes the training step of the reference.

    compiled: with torch.compile.
    keeps_memory: with the malloc settings of `keep_freed_memory`, which our step has on a CPU.
    """
    if keeps_memory:
        keep_freed_memory()
    step = ReferenceStep(
        PAIRS[case.shape],
        dropout=case.dropout,
        precision=case.precision,
        device=torch.device(case.device),
        compiled=compiled,
    )
    return Program(on(step, batches(case)), step.facts)


def product(case: Case) -> Step:
    """A large matrix product in place of a step. Its units are floating-point operations."""
    return matrix_product(PRECISIONS[case.precision], torch.device(case.device))


def batches(case: Case) -> list[Rows]:
    """`BATCHES` batches of rows of the kind `case.rows`, on the device."""
    vocab, device = PAIRS[case.shape].discriminator.vocab, torch.device(case.device)
    firsts = [1000 * number for number in range(BATCHES)]
    if case.rows == "full":
        return [full_rows(vocab, first=first).to(device) for first in firsts]
    if case.rows == "padded":
        return [padded_rows(short_documents(vocab, first=first)).to(device) for first in firsts]
    return [
        packed_rows(short_documents(vocab, first=first, count=4 * ROWS)).split(ROWS)[0].to(device) for first in firsts
    ]


def on(step: StepOnRows, rows: list[Rows]) -> Step:
    """A step that takes the batches in turn. Its units are pieces, padding not included."""
    sizes = [float(batch.is_real.sum()) for batch in rows]
    turn = count()

    def run() -> float:
        number = next(turn) % len(rows)
        step(rows[number])
        return sizes[number]

    return run
