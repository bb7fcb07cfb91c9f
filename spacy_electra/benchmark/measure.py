"""Time programs against each other: step by step in turn, so that what else the machine does meets all of them alike.

Rates are units of work per second of the process on all its threads (CPU) or per second of the clock (GPU).
"""

import platform
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import torch

Step = Callable[[], float]  # does one step and says how many units of work it was
Sample = tuple[float, float, float]  # units, busy seconds and seconds of the clock

PEAK_SIZES = {"cpu": 2048, "cuda": 8192}  # of the square matrices whose product shows what the device can do
PEAK_TRIES = 8
STEPS_OF_A_SAMPLE = {"cuda": 5}  # 1 on other devices, which have no queue that a host could fill
SECONDS = {"cpu": "CPU-second", "cuda": "second"}  # what rates are counted in
_STATUS = Path("/proc/self/status")


@dataclass(frozen=True)
class Program:
    """A step that says how it runs."""

    step: Step
    facts: dict[str, str]  # may change with the steps, as where compiling fails

    def __call__(self) -> float:
        return self.step()


@dataclass(frozen=True)
class Timed:
    """The samples of one program, which are steps, or a few steps each on a GPU."""

    units: list[float]  # of each sample
    busy: list[float]  # seconds of the process, or of the device
    wall: list[float]  # seconds of the clock
    memory: float | None = None  # GB at its highest; None where it is not told apart, or the system does not tell
    facts: dict[str, str] = field(default_factory=dict)  # of a `Program`

    @property
    def best(self) -> float:
        """Units per busy second of the fastest step: what is left when nothing disturbs."""
        return max(units / busy for units, busy in zip(self.units, self.busy, strict=True))

    @property
    def wall_rate(self) -> float:
        """Units per second of the clock, median."""
        return statistics.median(units / wall for units, wall in zip(self.units, self.wall, strict=True))


@dataclass(frozen=True)
class Ratio:
    """How many times faster the first of two programs is."""

    best: float  # fastest step against fastest step
    low: float  # lowest and highest of the ratios of the rounds
    high: float


def in_turn(programs: Mapping[str, Step], *, rounds: int, device: torch.device, warm_up: int = 2) -> dict[str, Timed]:
    """Run every program once a round, for `rounds` rounds after a few that do not count. Memory is not told apart."""
    asked = {name: partial(take, step, device) for name, step in programs.items()}
    timed = turns(asked, rounds=rounds, warm_up=warm_up)
    return {name: replace(one, facts=facts_of(programs[name])) for name, one in timed.items()}


def turns(asked: Mapping[str, Callable[[], Sample]], *, rounds: int, warm_up: int) -> dict[str, Timed]:
    """Ask every program for a step once a round."""
    timed = {name: Timed([], [], []) for name in asked}
    for number in range(-warm_up, rounds):
        for name, ask in asked.items():
            units, busy, wall = ask()
            if number >= 0:
                timed[name].units.append(units)
                timed[name].busy.append(busy)
                timed[name].wall.append(wall)
    return timed


def facts_of(step: Step) -> dict[str, str]:
    return step.facts if isinstance(step, Program) else {}


def take(step: Step, device: torch.device) -> Sample:
    """Units, busy seconds and seconds of the clock of one step, on a GPU of a few, which the host may prepare ahead."""
    is_gpu = device.type == "cuda"
    if is_gpu:
        torch.cuda.synchronize(device)
    wall, busy = time.perf_counter(), time.process_time()
    units = sum(step() for _ in range(STEPS_OF_A_SAMPLE.get(device.type, 1)))
    if is_gpu:
        torch.cuda.synchronize(device)
    wall, busy = time.perf_counter() - wall, time.process_time() - busy
    return units, wall if is_gpu else busy, wall


def ratio(ours: Timed, theirs: Timed) -> Ratio:
    rounds = [
        (units / busy) / (other_units / other_busy)
        for units, busy, other_units, other_busy in zip(ours.units, ours.busy, theirs.units, theirs.busy, strict=True)
    ]
    return Ratio(best=ours.best / theirs.best, low=min(rounds), high=max(rounds))


def matrix_product(dtype: torch.dtype, device: torch.device) -> Step:
    """A large matrix product; gives its floating-point operations."""
    size = PEAK_SIZES[device.type]
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))

    def multiply() -> float:
        torch.mm(a, b)
        return 2.0 * size**3

    return multiply


def matrix_peak(dtype: torch.dtype, device: torch.device) -> float:
    """Floating-point operations per busy second of a large matrix product, the best of a few."""
    return in_turn({"product": matrix_product(dtype, device)}, rounds=PEAK_TRIES, device=device)["product"].best


def highest_memory(device: torch.device) -> float | None:
    """GB that this process held at its highest so far: resident (CPU), or by torch on the device (GPU).

    On a GPU that is with the pools of CUDA graphs and with what torch keeps for later.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device) / 1e9
    try:
        lines = dict(line.split(":", 1) for line in _STATUS.read_text(encoding="utf8").splitlines() if ":" in line)
    except OSError:
        return None
    return float(lines["VmHWM"].split()[0]) * 1024 / 1e9


def describe_machine(device: torch.device) -> str:
    """What ran, in words."""
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, torch {torch.__version__}"
    return f"{_cpu_name()}, {torch.get_num_threads()} thread(s), torch {torch.__version__}"


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
