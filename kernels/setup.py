"""Compile the library. All else stands in setup.cfg."""

import os
import platform
import sys
from glob import glob

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

SETS = ("avx512f", "avx512bw", "avx512vl", "avx512dq", "fma", "avx512vnni")
LIBRARY = Extension(
    "spacy_electra_kernels.libspacy_electra_kernels",
    ["src/encoder.c"],
    depends=sorted(glob("src/**/*.h", recursive=True)),
    extra_compile_args=["-O3", "-fno-strict-aliasing", "-pthread", *(f"-m{each}" for each in SETS)],
    extra_link_args=["-pthread"],
    libraries=["m"],
)


class BuildLibrary(build_ext):
    """The library is loaded by ctypes and uses nothing of Python, so its name does not say for which one it is."""

    def run(self) -> None:
        if (sys.platform, platform.machine()) != ("linux", "x86_64"):
            sys.exit(f"spacy-electra-kernels is for Linux on x86-64, but this is {platform.platform()}.")
        super().run()

    def get_ext_filename(self, fullname: str) -> str:
        return os.path.join(*fullname.split(".")) + ".so"


class BuildWheel(bdist_wheel):
    """One wheel for all versions of Python."""

    def get_tag(self) -> tuple[str, str, str]:
        return "py3", "none", super().get_tag()[2]


setup(ext_modules=[LIBRARY], cmdclass={"build_ext": BuildLibrary, "bdist_wheel": BuildWheel})
