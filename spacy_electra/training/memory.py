"""Choose the micro-batch: as many rows as memory holds, and fewer after running out of memory.

The batch of a step does not change: gradients accumulate over its micro-batches.
"""

import gc
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

from spacy_electra.training.cgroups import memory_left
from spacy_electra.training.distributed import ranks_here

logger = logging.getLogger("spacy_electra")

SHARE = 0.4  # of the free memory, for what a forward pass keeps: the backward pass needs more than as much beside it
AUTO = -1

_Result = TypeVar("_Result")
OUT_OF_MEMORY_MESSAGES = (
    "can't allocate memory",
    "out of memory",
    "_STATUS_ALLOC_FAILED",
)  # the last by cuBLAS and cuDNN


class NoRoom(ValueError):
    """Memory cannot hold the smallest possible micro-batch."""


@dataclass
class MicroBatchSize:
    """The rows of one forward pass. A run has one such object; running out of memory makes it smaller for good."""

    rows: int

    def shrink(self) -> None:
        self.rows = (self.rows + 1) // 2


def within_memory(micro_batch: MicroBatchSize, work: Callable[[], _Result], *, forget: Callable[[], object]) -> _Result:
    """The result of `work`. If it runs out of memory, it is repeated with half as many rows in a micro-batch.

    forget: called before a repetition, to free what the failed attempt left.
    Raises NoRoom, a ValueError, if a single row is too much, or if the size of the micro-batch is not yet known.
    """
    while True:
        failure = ""
        try:
            return work()
        except (RuntimeError, MemoryError) as error:  # its traceback holds tensors, so nothing is done in here
            if not is_out_of_memory(error):
                raise
            failure = str(error).splitlines()[0] if str(error) else type(error).__name__
        forget()
        free_unused()
        if micro_batch.rows <= 1:
            what = "a single row does" if micro_batch.rows else "the rows of a pass do"
            raise NoRoom(
                f"{what} not fit into memory ({failure}): set model.activation_checkpointing to true, "
                f"or choose a shorter model.window or a smaller model."
            )
        micro_batch.shrink()
        logger.warning("out of memory: continuing with %d rows at a time (%s)", micro_batch.rows, failure)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error is for lack of memory: torch's class for CUDA, or the message of any other."""
    is_told = any(words in str(error) for words in OUT_OF_MEMORY_MESSAGES)
    return is_told or isinstance(error, torch.OutOfMemoryError | MemoryError)


def free_unused() -> None:
    """Free unreferenced objects and cached memory."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    elif torch.backends.mps.is_available():
        torch.mps.empty_cache()


def rows_that_fit(kept: Callable[[int], int], *, free: int, most: int) -> int:
    """The largest number of rows whose forward pass keeps no more than its share of the free memory.

    kept: bytes that the forward pass of so many rows keeps for the backward pass; called for one and for two rows.
    free: bytes.
    most: maximum number of rows.
    """
    if most == 1:
        return 1
    one, two = kept(1), kept(2)
    a_row = max(1, two - one)
    return max(1, min(most, 1 + int(free * SHARE - one) // a_row))


def step_bytes(module: nn.Module) -> int:
    """Bytes of gradients and optimizer moments of `module`, which are allocated throughout."""
    learned = sum(p.numel() * p.element_size() for p in module.parameters() if p.requires_grad)
    return 3 * learned


def asked(setting: int | str) -> int:
    """The setting `training.micro_batch_size` as a number of rows: 0 for all, -1 for "auto"."""
    return AUTO if setting == "auto" else int(setting)


def even_micro_batch(rows: int, *, most: int) -> int:
    """The size that divides `rows` into as few micro-batches as size `most` would, of about equal size."""
    parts = -(-rows // most)
    return -(-rows // parts)


def kept_bytes(forward: Callable[[], object], module: nn.Module) -> int:
    """Bytes that a forward pass keeps for its backward pass, without the weights of the module."""
    weights = {p.untyped_storage().data_ptr() for p in module.parameters()}
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        result = forward()  # held until all is counted, or an address would come twice
    total = sum(kept.values())
    del result
    return total


def free_memory(device: torch.device) -> int:
    """Free bytes on `device`, including what torch has reserved, within the limit of a container.

    Ranks that compute on the CPU of one machine divide them equally.
    """
    if device.type == "cuda":
        reserve = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        allowed = int(torch.cuda.get_per_process_memory_fraction(device) * torch.cuda.mem_get_info(device)[1])
        return min(torch.cuda.mem_get_info(device)[0] + reserve, allowed - torch.cuda.memory_allocated(device))
    if device.type == "mps":
        return int(torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory())
    import psutil  # a machine that computes on a graphics card may lack it

    return min(int(psutil.virtual_memory().available), memory_left()) // ranks_here()
