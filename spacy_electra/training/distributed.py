"""Data-parallel training under torchrun: shares of the rows, and exchanges between ranks.

Every rank takes its share of each step's rows. Counts, gradients and losses are summed over all ranks, so every rank
takes the same step, whatever their number. Only the first rank writes. A single process is the first of one rank, and
exchanges nothing.
"""

import math
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn

from spacy_electra.training.state import State, Sums

BACKENDS = "cpu:gloo,cuda:nccl"
TIMEOUT = timedelta(minutes=30)  # that ranks wait for each other: the first may be writing


@dataclass(frozen=True)
class Ranks:
    """The number of this process and of all processes of the run."""

    rank: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def share(self, rows: int) -> tuple[int, int]:
        """First row and number of rows of this rank's share of a step.

        rows: number of rows of the step.
        """
        first = rows * self.rank // self.size
        return first, rows * (self.rank + 1) // self.size - first

    def largest_share(self, rows: int) -> int:
        """The largest number of rows in any rank's share of a step."""
        return -(-rows // self.size)

    def add(self, numbers: Tensor) -> Tensor:
        """Sum `numbers` over all ranks, in place.

        numbers: float, on the run's device.
        """
        if self.size > 1:
            with _contact():
                dist.all_reduce(numbers)
        return numbers

    def add_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Sum the gradients over all ranks, in place, in one exchange."""
        gradients = [p.grad for p in parameters if p.grad is not None]
        if self.size == 1 or not gradients:
            return
        flat = self.add(torch.cat([gradient.flatten() for gradient in gradients]))
        parts = flat.split([gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))

    def spread(self, tensors: Iterable[Tensor]) -> None:
        """Copy the first rank's values to all ranks, in place."""
        if self.size > 1:
            with _contact(), torch.no_grad():
                for tensor in tensors:
                    dist.broadcast(tensor, src=0)

    def spread_state(self, state: State) -> State:
        """The first rank's state, on all ranks."""
        numbers = torch.tensor(_to_numbers(state), dtype=torch.float64, device="cpu")
        self.spread([numbers])
        return state if self.size == 1 else _from_numbers(numbers.tolist())

    def spread_number(self, number: float) -> float:
        """The first rank's number, on all ranks. Waits for the other processes, but not for a device."""
        if self.size == 1:
            return number
        holder = torch.tensor(number, dtype=torch.float64, device="cpu")
        self.spread([holder])
        return holder.item()

    def least(self, number: int) -> int:
        """The smallest number of all ranks. Waits for the other processes, but not for a device."""
        if self.size == 1:
            return number
        holder = torch.tensor(number, dtype=torch.int64, device="cpu")
        with _contact():
            dist.all_reduce(holder, op=dist.ReduceOp.MIN)
        return int(holder.item())

    def any(self, claim: bool) -> bool:
        """Whether the claim is true on any rank."""
        if self.size == 1:
            return claim
        return self.add(torch.tensor(float(claim), dtype=torch.float32, device="cpu")).item() > 0


ALONE = Ranks()


def is_launched() -> bool:
    """Whether torchrun started this process as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1 and "LOCAL_RANK" in os.environ


def local_rank() -> int:
    """The number of this process on its machine, which is that of its GPU."""
    return int(os.environ["LOCAL_RANK"])


def ranks_here() -> int:
    """Number of processes that torchrun started on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if is_launched() else 1


def join() -> Ranks:
    """Connect to the other processes that torchrun started, if any. Raises ConnectionError."""
    if not is_launched():
        return Ranks()
    if not dist.is_initialized():
        try:
            dist.init_process_group(BACKENDS if torch.cuda.is_available() else "gloo", timeout=TIMEOUT)
        except RuntimeError as error:
            place = f"{os.environ.get('MASTER_ADDR', '?')}:{os.environ.get('MASTER_PORT', '?')}"
            raise ConnectionError(
                f"rank {os.environ.get('RANK', '?')} did not meet the others at {place}, so nothing has begun: one of "
                f"them ended before, and its own message says why, or torchrun was not started on every machine with "
                f"the same --nnodes and --rdzv-endpoint. ({error})"
            ) from error
    return Ranks(rank=dist.get_rank(), size=dist.get_world_size())


def leave() -> None:
    """Close the connection of `join`."""
    if dist.is_initialized():
        dist.destroy_process_group()


@contextmanager
def _contact() -> Iterator[None]:
    """Say of a broken exchange what it means. Raises ConnectionError."""
    try:
        yield
    except RuntimeError as error:
        raise ConnectionError(
            f"rank {os.environ.get('RANK', '?')} lost contact with the others: one of them has ended, and its own "
            f"message says why. The last checkpoint is whole; start all of them again with --resume. ({error})"
        ) from error


def _to_numbers(state: State) -> list[float]:
    best = math.nan if state.best_loss is None else state.best_loss
    return [
        state.step,
        state.row,
        state.seconds,
        best,
        state.lr_scale,
        state.micro_batch_size,
        state.asked_micro_batch_size,
        *state.sums.read().values(),
    ]


def _from_numbers(numbers: list[float]) -> State:
    step, row, seconds, best, lr_scale, micro_batch_size, asked_micro_batch_size, *sums = numbers
    names = [f.name for f in fields(Sums)]
    return State(
        step=int(step),
        row=int(row),
        seconds=seconds,
        best_loss=None if math.isnan(best) else best,
        lr_scale=lr_scale,
        micro_batch_size=int(micro_batch_size),
        asked_micro_batch_size=int(asked_micro_batch_size),
        sums=Sums(**dict(zip(names, sums, strict=True))),
    )
