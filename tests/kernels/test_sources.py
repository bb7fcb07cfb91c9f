"""The C sources: headers that compile alone, without a warning, each name defined once, in lines of 120 columns."""

import re
import subprocess
from collections import Counter
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
SOURCES = TESTS.parents[1] / "kernels" / "src"
HEADERS = sorted(SOURCES.rglob("*.h"))
SETS = [f"-m{name}" for name in ("avx512f", "avx512bw", "avx512vl", "avx512dq", "fma", "avx512vnni")]
WARNINGS = ["-Wall", "-Wextra", "-Wconversion", "-Werror"]
DEFINED = re.compile(
    r"^(?:#define (?P<macro>\w+)|} (?P<type>\w+);|(?:INLINE|INTERNAL|static)\b[^;{=]*?\b(?P<function>\w+)\()", re.M
)


def name_of(path: Path) -> str:
    return path.relative_to(SOURCES).as_posix()


@pytest.fixture(scope="module")
def for_avx512(compiler: str) -> list[str]:
    """The compiler's options for AVX512, none where it compiles for other processors; there tests have intrinsics."""
    done = subprocess.run([compiler, *SETS, "-fsyntax-only", "-x", "c", "/dev/null"], capture_output=True)
    return SETS if done.returncode == 0 else ["-Wno-psabi", "-isystem", str(TESTS)]


def check_syntax(compiler: str, *options: str) -> None:
    command = [compiler, *WARNINGS, "-O1", "-fsyntax-only", *options]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("path", HEADERS, ids=name_of)
def test_a_header_compiles_alone_and_twice(compiler: str, for_avx512: list[str], path: Path) -> None:
    check_syntax(compiler, *for_avx512, "-include", str(path), "-include", str(path), "-x", "c", "/dev/null")


@pytest.mark.parametrize("options", [[], ["-DSCALAR"]], ids=["kernels", "twins"])
def test_the_library_compiles_without_warnings(compiler: str, for_avx512: list[str], options: list[str]) -> None:
    check_syntax(compiler, *for_avx512, *options, str(SOURCES / "encoder.c"))


def test_nothing_is_defined_twice() -> None:
    for twin in ("avx512", "scalar"):
        files = [path for path in SOURCES.rglob("*.[ch]") if path.parent.name in ("src", twin)]
        found = [m[0] for path in files for m in DEFINED.finditer(path.read_text("utf8")) if not m["macro"]]
        names = Counter(re.findall(r"\w+", text.removesuffix("("))[-1] for text in found)
        assert len(names) > 40
        assert [name for name, count in names.items() if count > 1] == []


def test_every_kernel_has_a_twin() -> None:
    """What the stages call of one folder is in the other."""
    called = set(re.findall(r"\b(\w+)\(", (SOURCES / "stages.h").read_text("utf8")))
    functions = {
        folder: {
            m["function"] for path in SOURCES.glob(f"{folder}/*.h") for m in DEFINED.finditer(path.read_text("utf8"))
        }
        for folder in ("avx512", "scalar")
    }
    assert called & functions["avx512"] == called & functions["scalar"]
    assert len(called & functions["scalar"]) >= 8


@pytest.mark.parametrize(
    "path", [*sorted(SOURCES.rglob("*.[ch]")), *sorted(TESTS.glob("*.[ch]"))], ids=lambda p: p.name
)
def test_lines_have_120_columns_at_most(path: Path) -> None:
    assert [line for line in path.read_text("utf8").splitlines() if len(line) > 120] == []
