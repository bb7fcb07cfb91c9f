"""`debug backend` says what predicts and trains on a machine, and what a faster backend lacks."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import spacy

from spacy_electra.model.inference.backend import Machine

Invoke = Callable[..., Any]
On = Callable[..., None]
WEIGHTS = Path(__file__).parents[2] / "assets" / "electra-tiny" / "discriminator"


@pytest.fixture
def on(assume: Callable[[Machine], None]) -> On:
    """Let the processor be another one."""
    return lambda **units: assume(Machine("cpu", **units))


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    nlp = spacy.blank("en")
    model = {"@architectures": "spacy-electra.ElectraTransformer.v2", "name": str(WEIGHTS), "precision": "bf16"}
    transformer: Any = nlp.add_pipe("transformer", config={"model": model})
    transformer.model.initialize()
    path = tmp_path_factory.mktemp("backend") / "pipeline"
    nlp.to_disk(path)
    return path


def rows_of(printed: str) -> dict[str, list[str]]:
    """The cells of each row of the first table, by precision."""
    cells = [line.split() for line in printed.splitlines()]
    rows: dict[str, list[str]] = {}
    for first, *others in filter(None, cells):
        if first in ("fp32", "auto", "bf16", "int8"):
            rows.setdefault(first, others)
    return rows


def test_a_processor_with_kernels_predicts_by_them(run_command: Invoke, on: On) -> None:
    on(vnni=True, avx512_bf16=True, onednn_bf16=True)
    printed = run_command("debug", "backend").stdout
    assert rows_of(printed) == {
        "fp32": ["eager", "fp32", "fp32"],
        "auto": ["native", "int16", "bf16"],
        "int8": ["native", "int8", "bf16"],
    }
    assert "It has AVX512-BF16, AVX512-VNNI, bfloat16 products of oneDNN; C kernels are loaded." in printed
    assert "To change that" not in printed
    assert ["tiny: 4 layers" in printed, "small: 12 layers" in printed] == [True, True]


@pytest.mark.parametrize(
    ("units", "auto", "told", "remedy"),
    [
        ({}, ["eager", "fp32", "fp32"], "this processor has no AVX512-VNNI", "AMD processor from Zen 4 on"),
        (
            {"vnni": True, "amx": True, "onednn_bf16": True},
            ["onednn", "bf16", "bf16"],
            "auto, no native int16: this processor has AMX",
            'set precision = "int8"',
        ),
        (
            {"vnni": True, "kernels_error": "the package spacy-electra-kernels is not installed"},
            ["eager", "fp32", "fp32"],
            "the C kernels cannot be loaded: the package spacy-electra-kernels is not installed",
            "pip install spacy-electra[kernels]",
        ),
    ],
    ids=["AVX2", "AMX", "no kernels"],
)
def test_what_a_faster_backend_lacks_is_told(
    run_command: Invoke, on: On, units: dict[str, Any], auto: list[str], told: str, remedy: str
) -> None:
    on(**units)
    printed = run_command("debug", "backend").stdout
    assert rows_of(printed)["auto"] == auto
    assert told in printed
    assert remedy in printed


def test_a_pipeline_is_looked_at_in_its_own_precision(run_command: Invoke, on: On, pipeline: Path) -> None:
    on(onednn_bf16=True)
    printed = run_command("debug", "backend", pipeline).stdout
    assert "components.transformer.model: 4 layers, width 128" in printed
    assert rows_of(printed)["bf16"] == ["onednn", "bf16", "bf16", "as", "its", "config", "says"]
    assert "tiny:" not in printed


def test_a_pipeline_without_our_transformer_is_told_what_it_has(complaint: Invoke, tmp_path: Path) -> None:
    nlp = spacy.blank("en")
    nlp.add_pipe("sentencizer")
    nlp.to_disk(tmp_path)
    told = complaint("debug", "backend", tmp_path)
    assert "has no transformer of this package" in told
    assert "sentencizer" in told


def test_a_gpu_that_is_not_there_is_told(complaint: Invoke) -> None:
    assert "--gpu-id 99 asks for a GPU" in complaint("debug", "backend", "--gpu-id", 99)
