"""Time programs in turn, step by step, so that other load on the machine affects all of them alike.

Rates are units of work per CPU-second of the process, over all its threads, or on a GPU per second of wall time.
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
    """A step with facts about how it runs, such as its precision."""

    step: Step
    facts: dict[str, str]  # may change with the steps, as where compiling fails

    def __call__(self) -> float:
        return self.step()


@dataclass(frozen=True)
class Timed:
    """The samples of one program. A sample is one step, or a few steps on a GPU."""

    units: list[float]  # of each sample
    busy: list[float]  # seconds of the process, or of the device
    wall: list[float]  # seconds of the clock
    memory: float | None = None  # GB at its highest; None where it is not told apart, or the system does not tell
    facts: dict[str, str] = field(default_factory=dict)  # of a `Program`

    @property
    def best(self) -> float:
        """Units per busy second of the fastest sample, the one that other load disturbed least."""
        return max(units / busy for units, busy in zip(self.units, self.busy, strict=True))

    @property
    def wall_rate(self) -> float:
        """Units per second of wall time, median of the samples."""
        return statistics.median(units / wall for units, wall in zip(self.units, self.wall, strict=True))


@dataclass(frozen=True)
class Ratio:
    """The speed of one program divided by that of another."""

    best: float  # fastest step against fastest step
    low: float  # lowest and highest of the ratios of the rounds
    high: float


def in_turn(programs: Mapping[str, Step], *, rounds: int, device: torch.device, warm_up: int = 2) -> dict[str, Timed]:
    """Take a sample of every program in each round. Memory is not measured, since the programs share a process.

    rounds: samples of each program.
    warm_up: rounds before these, which do not count.
    """
    asked = {name: partial(take, step, device) for name, step in programs.items()}
    timed = turns(asked, rounds=rounds, warm_up=warm_up)
    return {name: replace(one, facts=facts_of(programs[name])) for name, one in timed.items()}


def turns(asked: Mapping[str, Callable[[], Sample]], *, rounds: int, warm_up: int) -> dict[str, Timed]:
    """Take a sample of every program in each round.

    asked: functions that take a sample, by the program's name.
    rounds: samples of each program.
    warm_up: rounds before these, which do not count.
    """
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
    """The facts of a `Program`; none for any other step."""
    return step.facts if isinstance(step, Program) else {}


def take(step: Step, device: torch.device) -> Sample:
    """Take one sample, of one step or of a few on a GPU, where the host may queue them ahead.

    Returns units, busy seconds and seconds of wall time.
    """
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
    """Compare the speed of two programs that were timed in the same rounds."""
    rounds = [
        (units / busy) / (other_units / other_busy)
        for units, busy, other_units, other_busy in zip(ours.units, ours.busy, theirs.units, theirs.busy, strict=True)
    ]
    return Ratio(best=ours.best / theirs.best, low=min(rounds), high=max(rounds))


def matrix_product(dtype: torch.dtype, device: torch.device) -> Step:
    """A step that multiplies two large matrices. Its units are floating-point operations."""
    size = PEAK_SIZES[device.type]
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))

    def multiply() -> float:
        torch.mm(a, b)
        return 2.0 * size**3

    return multiply


def matrix_peak(dtype: torch.dtype, device: torch.device) -> float:
    """Floating-point operations per busy second of a large matrix product, of the fastest sample."""
    return in_turn({"product": matrix_product(dtype, device)}, rounds=PEAK_TRIES, device=device)["product"].best


def highest_memory(device: torch.device) -> float | None:
    """Peak memory of this process in GB: resident (CPU), or reserved by torch on the device (GPU); None if unknown.

    On a GPU it includes the pools of CUDA graphs, and blocks that torch caches.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device) / 1e9
    try:
        lines = dict(line.split(":", 1) for line in _STATUS.read_text(encoding="utf8").splitlines() if ":" in line)
    except OSError:
        return None
    return float(lines["VmHWM"].split()[0]) * 1024 / 1e9


def describe_machine(device: torch.device) -> str:
    """Name of the device and version of torch, with the number of threads on a CPU."""
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, torch {torch.__version__}"
    return f"{_cpu_name()}, {torch.get_num_threads()} thread(s), torch {torch.__version__}"


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
