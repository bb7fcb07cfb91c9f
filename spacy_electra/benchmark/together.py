"""Build programs and time them: in turn where memory holds them all, else one after the other.

A program's memory is what it adds at its highest to what lay on the card before it was built.
"""

import gc
from collections.abc import Callable, Mapping
from dataclasses import replace

import torch

from spacy_electra.benchmark.measure import Step, Timed, in_turn
from spacy_electra.training.memory import NoRoom, free_unused, is_out_of_memory

Make = Callable[[], Step]

SOLO_STEPS = 4  # the optimizer's moments come with the first, CUDA graphs are recorded with the second and third


def time_made(makes: Mapping[str, Make], *, rounds: int, device: torch.device) -> dict[str, Timed | None]:
    """Time what each of `makes` builds; None for a program that does not fit into memory alone.

    In turn, step by step, if all fit at once, so that what else happens meets all alike.
    """
    together = _or_none(lambda: _in_turn(makes, rounds=rounds, device=device))
    if together is not None:
        return dict(together)
    return {name: _alone(make, rounds=rounds, device=device) for name, make in makes.items()}


def _alone(make: Make, *, rounds: int, device: torch.device) -> Timed | None:
    timed = _or_none(lambda: _in_turn({"program": make}, rounds=rounds, device=device))
    return None if timed is None else timed["program"]


def _in_turn(makes: Mapping[str, Make], *, rounds: int, device: torch.device) -> dict[str, Timed]:
    steps, memory = {}, {}
    for name, make in makes.items():
        steps[name], memory[name] = _warmed_up(make, device)
    timed = in_turn(steps, rounds=rounds, device=device)
    if device.type != "cuda":
        return timed  # the programs share the memory of the process, which is not told apart
    return {name: replace(one, memory=memory[name]) for name, one in timed.items()}


def _warmed_up(make: Make, device: torch.device) -> tuple[Step, float]:
    """A program after its first steps, and the GB on the card that these took at most."""
    gc.collect()
    is_card = device.type == "cuda"
    before = torch.cuda.memory_allocated(device) if is_card else 0
    if is_card:
        torch.cuda.reset_peak_memory_stats(device)
    step = make()
    for _ in range(SOLO_STEPS):
        step()
    return step, ((torch.cuda.max_memory_allocated(device) - before) / 1e9 if is_card else 0.0)


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
