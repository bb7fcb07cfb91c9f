"""The device of a run, from --gpu-id and the config's [system]."""

import sys
from importlib.util import find_spec
from typing import Any

import torch
from thinc.api import Model
from wasabi import msg

from spacy_electra.training.distributed import is_launched, local_rank

NO_GPU = -1


def choose_device(gpu_id: int, *, memory_fraction: float) -> torch.device:
    """The torch device for `--gpu-id` (-1: CPU; Apple's MPS counts as GPU 0).

    memory_fraction: maximum share of an NVIDIA GPU's memory that this process may use.
    Raises ValueError for a GPU that is not there.
    """
    if gpu_id < -1:
        raise ValueError(f"--gpu-id must be the number of a GPU, or -1 for the CPU, but got {gpu_id}.")
    if gpu_id == -1:
        return torch.device("cpu")
    if torch.cuda.is_available():
        count = torch.cuda.device_count()
        if gpu_id >= count:
            raise ValueError(f"--gpu-id {gpu_id} asks for a GPU that is not there: this machine has 0 to {count - 1}.")
        torch.cuda.set_device(gpu_id)  # or whatever takes no device would open the first card as well
        torch.cuda.set_per_process_memory_fraction(memory_fraction, gpu_id)
        return torch.device("cuda", gpu_id)
    if gpu_id == 0 and torch.backends.mps.is_available():
        return torch.device("mps")
    raise ValueError(
        f"--gpu-id {gpu_id} asks for a GPU, but torch {torch.__version__} sees none: leave the option out to use "
        f"the CPU, or install a build of torch for this machine's GPU."
    )


def choose_rank_device(gpu_id: int, *, memory_fraction: float) -> torch.device:
    """As `choose_device`; under torchrun each process takes the GPU of its rank, or the CPU if there is none.

    Raises ValueError for `--gpu-id` under torchrun.
    """
    if not is_launched():
        return choose_device(gpu_id, memory_fraction=memory_fraction)
    if gpu_id != NO_GPU:
        raise ValueError(
            f"--gpu-id {gpu_id} names one GPU, but torchrun started several processes, each of which takes the GPU of "
            f"its number: leave the option out."
        )
    gpu_id = local_rank() if torch.cuda.is_available() else NO_GPU
    return choose_device(gpu_id, memory_fraction=memory_fraction)


def say_if_cupy_is_missing() -> None:
    """Warn before `spacy train --gpu-id` refuses to start: spaCy computes on NVIDIA cards with CuPy only."""
    if sys.platform != "darwin" and find_spec("cupy") is None:
        msg.warn(
            "Pretraining needs no CuPy, but `spacy train --gpu-id` does and it is not installed: "
            "pip install cupy-cuda12x"
        )


def move(model: Model[Any, Any], device: torch.device) -> None:
    """Put a thinc model's torch weights on `device`. CuPy is not needed for that."""
    for shim in model.shims:
        kind = {"cuda": "gpu"}.get(device.type, device.type)
        shim.to_device(kind, device.index or 0)
