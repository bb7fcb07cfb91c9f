"""Build programs and time them: in turn where memory holds them all, else one after the other.

A program's memory is what torch's allocator took from the card for it at its highest, beyond what it held before the
program was built: with the pools of CUDA graphs, and with what torch keeps for later.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch

from spacy_electra.benchmark.measure import Step, Timed, in_turn
from spacy_electra.training.memory import NoRoom, free_unused, is_out_of_memory

Make = Callable[[], Step]

SOLO_STEPS = 4  # the optimizer's moments come with the first, CUDA graphs are recorded with the second and third


@dataclass(frozen=True)
class Timings:
    """What was measured of each program."""

    timed: dict[str, Timed | None]  # None: it does not fit into memory alone
    took_turns: bool  # step by step, so that what else happens met all alike; False: one ran after the other


def time_made(makes: Mapping[str, Make], *, rounds: int, device: torch.device) -> Timings:
    """Time what each of `makes` builds, in turn if all fit at once."""
    together = _or_none(lambda: _in_turn(makes, rounds=rounds, device=device))
    if together is not None:
        return Timings(dict(together), took_turns=True)
    alone = {name: _alone(make, rounds=rounds, device=device) for name, make in makes.items()}
    return Timings(alone, took_turns=False)


def _alone(make: Make, *, rounds: int, device: torch.device) -> Timed | None:
    timed = _or_none(lambda: _in_turn({"program": make}, rounds=rounds, device=device))
    return None if timed is None else timed["program"]


def _in_turn(makes: Mapping[str, Make], *, rounds: int, device: torch.device) -> dict[str, Timed]:
    steps, memory = {}, {}
    for name, make in makes.items():
        steps[name], memory[name] = _warmed_up(make, device)
    timed = in_turn(steps, rounds=rounds, device=device)
    return {name: replace(one, memory=memory[name]) for name, one in timed.items()}


def _warmed_up(make: Make, device: torch.device) -> tuple[Step, float | None]:
    """A program after its first steps, and the GB of the card that torch took for it; None on other devices."""
    free_unused()
    is_card = device.type == "cuda"
    before = torch.cuda.memory_reserved(device) if is_card else 0
    if is_card:
        torch.cuda.reset_peak_memory_stats(device)
    step = make()
    for _ in range(SOLO_STEPS):
        step()
    return step, ((torch.cuda.max_memory_reserved(device) - before) / 1e9 if is_card else None)


def _or_none(work: Callable[[], dict[str, Timed]]) -> dict[str, Timed] | None:
    """What `work` returns; None, and all given back, where it runs out of memory."""
    try:
        return work()
    except (NoRoom, RuntimeError, MemoryError) as error:  # its traceback holds tensors, so nothing is done in here
        if not (isinstance(error, NoRoom) or is_out_of_memory(error)):
            raise
    finally:
        torch.compiler.reset()  # CUDA graphs hold memory of their own
        free_unused()
    return None
