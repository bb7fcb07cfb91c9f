"""Memory that is freed stays in the process, where the C library can be told so."""

import os
import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource, torch
from spacy_electra.training.malloc import keep_freed_memory
if {keep}:
    assert keep_freed_memory()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    torch.ones(20_000_000)
before = faults()
for _ in range(10):
    torch.ones(20_000_000)
print(faults() - before)
"""
needs_glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")


def page_faults(*, keep: bool) -> int:
    """Pages of the system that ten tensors of 80 MB need once twenty such have been freed."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    done = subprocess.run(
        [sys.executable, "-c", FAULTS.format(keep=keep)], env=env, check=True, capture_output=True, text=True
    )
    return int(done.stdout)


@needs_glibc
def test_freed_memory_is_used_again_without_asking_the_system() -> None:
    assert page_faults(keep=True) < page_faults(keep=False) / 10


def test_what_the_user_has_set_is_left_alone() -> None:
    code = "from spacy_electra.training.malloc import keep_freed_memory; print(keep_freed_memory())"
    env = {**os.environ, "MALLOC_TRIM_THRESHOLD_": "131072"}
    done = subprocess.run([sys.executable, "-c", code], env=env, check=True, capture_output=True, text=True)
    assert done.stdout == "False\n"
