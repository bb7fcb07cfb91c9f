"""Compile the kernels of `spacy_electra/model/kernels` where system and compiler can. All else stands in setup.cfg.

`SPACY_ELECTRA_KERNELS=no` leaves them out, which makes the wheel for every other system.
"""

import os
import platform
import sys
from glob import glob

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

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


class BuildLibraries(build_ext):
    """The kernels are loaded by ctypes and use nothing of Python, so their names do not say for which one they are."""

    def get_ext_filename(self, fullname: str) -> str:
        return os.path.join(*fullname.split(".")) + ".so"


class BuildWheel(bdist_wheel):
    """One wheel for all versions of Python, with kernels or without."""

    def get_tag(self) -> tuple[str, str, str]:
        return "py3", "none", super().get_tag()[2]


is_meant = sys.platform == "linux" and platform.machine() == "x86_64"
is_wanted = os.environ.get("SPACY_ELECTRA_KERNELS") != "no"
setup(
    ext_modules=[kernels("encoder", "avx512vnni")] if is_meant and is_wanted else [],
    cmdclass={"build_ext": BuildLibraries, "bdist_wheel": BuildWheel},
)
