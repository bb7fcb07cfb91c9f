"""Build programs and time them: in turn where memory holds them all, else one after the other.

A program's memory is what torch's allocator took from the card for it at its highest, while no other was there: with
what torch keeps for later, and with the pool of CUDA graphs, which all compiled programs of a process share.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from time import monotonic
from typing import TypeVar

import torch

from spacy_electra.benchmark.measure import Step, Timed, in_turn
from spacy_electra.training.memory import NoRoom, free_unused, is_out_of_memory

Make = Callable[[], Step]
_Result = TypeVar("_Result")

SOLO_STEPS = 4  # the optimizer's moments come with the first, CUDA graphs are recorded with the second and third


@dataclass(frozen=True)
class Timings:
    """What was measured of each program."""

    timed: dict[str, Timed | None]  # None: it does not fit into memory alone
    took_turns: bool  # step by step, so that what else happens met all alike; False: one ran after the other
    left_out: tuple[str, ...] = ()  # for lack of time


@dataclass(frozen=True)
class Taken:
    """The memory of a program that fits."""

    gigabytes: float | None  # of the card; None on other devices


def time_made(makes: Mapping[str, Make], *, rounds: int, device: torch.device, until: float = math.inf) -> Timings:
    """Time what each of `makes` builds, in turn if all that fit alone fit at once.

    until: a time of `time.monotonic` after which none is built; half of what is left now is for each of them alone.
    """
    now = monotonic()
    taken: dict[str, Taken | None] = {}
    for name, make in makes.items():
        if monotonic() < now + (until - now) / 2:
            taken[name] = _or_none(partial(_run_alone, make, device))
    fitting = {name: make for name, make in makes.items() if taken.get(name) is not None}
    left_out = {name for name in makes if name not in taken}

    def run(some: Mapping[str, Make]) -> dict[str, Timed]:
        steps: dict[str, Step] = {}
        for name, make in some.items():
            if monotonic() < until:
                steps[name] = make()
                steps[name]()  # compiles, so that the next look at the clock counts it
        left_out.update(some.keys() - steps)
        return in_turn(steps, rounds=rounds, device=device) if steps else {}

    together = _or_none(lambda: run(fitting))
    timed: dict[str, Timed | None] = dict.fromkeys(makes)
    if together is not None:
        timed |= together
    else:
        for name, make in fitting.items():
            timed |= _or_none(partial(run, {name: make})) or {}
    for name, one in timed.items():
        found = taken.get(name)
        timed[name] = None if one is None or found is None else replace(one, memory=found.gigabytes)
    late = tuple(name for name in makes if name in left_out)
    return Timings(timed, took_turns=bool(together), left_out=late)


def _run_alone(make: Make, device: torch.device) -> Taken:
    """Build a program, take its first steps and drop it."""
    is_card = device.type == "cuda"
    before = torch.cuda.memory_reserved(device) if is_card else 0  # nothing unused is left, see `_or_none`
    if is_card:
        torch.cuda.reset_peak_memory_stats(device)
    step = make()
    for _ in range(SOLO_STEPS):
        step()
    return Taken((torch.cuda.max_memory_reserved(device) - before) / 1e9 if is_card else None)


def _or_none(work: Callable[[], _Result]) -> _Result | None:
    """What `work` returns; None where it runs out of memory. What it took is given back."""
    free_unused()
    try:
        return work()
    except (NoRoom, RuntimeError, MemoryError) as error:  # its traceback holds tensors, so nothing is done in here
        if not (isinstance(error, NoRoom) or is_out_of_memory(error)):
            raise
    finally:
        torch.compiler.reset()  # CUDA graphs hold memory of their own
        free_unused()
    return None
