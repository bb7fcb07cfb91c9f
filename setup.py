"""Compile the kernels of `spacy_electra/model/kernels` where system and compiler can. All else stands in setup.cfg."""

import platform
import sys
from glob import glob

from setuptools import Extension, setup

SETS = ("avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512vnni", "avx512bf16", "fma")
FOLDER = "spacy_electra/model/kernels"
kernels = Extension(
    "spacy_electra.model._kernels",  # loaded by ctypes, see library.py
    [f"{FOLDER}/encoder.c", f"{FOLDER}/training.c"],
    depends=sorted(glob(f"{FOLDER}/*.h")),
    extra_compile_args=["-O3", "-fno-strict-aliasing", "-pthread", *(f"-m{name}" for name in SETS)],
    extra_link_args=["-pthread"],
    optional=True,  # without it predictions run in torch
)
setup(ext_modules=[kernels] if sys.platform == "linux" and platform.machine() == "x86_64" else [])
