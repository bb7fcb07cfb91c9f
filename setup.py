"""Compile the kernels of `spacy_electra/model/kernels` where system and compiler can. All else stands in setup.cfg."""

import platform
import sys
from glob import glob

from setuptools import Extension, setup

FOLDER = "spacy_electra/model/kernels"
SETS = ("avx512f", "avx512bw", "avx512vl", "avx512dq", "fma")


def kernels(name: str, *more_sets: str) -> Extension:
    """A library for processors with these instruction sets, which library.py loads."""
    return Extension(
        f"spacy_electra.model._kernels_{name}",
        [f"{FOLDER}/{name}.c"],
        depends=sorted(glob(f"{FOLDER}/*.h")),
        extra_compile_args=["-O3", "-fno-strict-aliasing", "-pthread", *(f"-m{each}" for each in (*SETS, *more_sets))],
        extra_link_args=["-pthread"],
        libraries=["m"],
        optional=True,  # without it everything runs in torch
    )


is_meant = sys.platform == "linux" and platform.machine() == "x86_64"
setup(ext_modules=[kernels("encoder", "avx512vnni")] if is_meant else [])
