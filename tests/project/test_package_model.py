"""A model's wheel: what is in it, and that its name is enough where it is installed."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

SCRIPT = "scripts/package_model.py"
LOAD = """
import sys
from spacy_electra.cli.start import read_start
from spacy_electra.model.init.pretrained import load_encoder
encoder, tokenizer = load_encoder(sys.argv[1])
print(encoder.shape.layers, tokenizer.size, read_start(sys.argv[1]).generator)
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of packages in which the wheel of `assets/electra-tiny` is installed."""
    root, dist = Path(__file__).parents[2], tmp_path_factory.mktemp("dist")
    options = ["--name", "spacy-electra-try", "--version", "1.2.3", "--license", "MIT"]
    subprocess.run([sys.executable, SCRIPT, "assets/electra-tiny", str(dist), *options], cwd=root, check=True)
    target = tmp_path_factory.mktemp("packages")
    wheel = str(dist / "spacy_electra_try-1.2.3-py3-none-any.whl")
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(target)
    return target


def test_the_wheel_holds_the_model_its_card_and_what_it_needs(installed: Path):
    inside = {str(path.relative_to(installed)) for path in installed.rglob("*") if path.is_file()}
    assert {
        "spacy_electra_try/README.md",
        "spacy_electra_try/discriminator/model.safetensors",
        "spacy_electra_try/generator/config.json",
    } <= inside
    facts = (installed / "spacy_electra_try-1.2.3.dist-info" / "METADATA").read_text(encoding="utf8")
    assert "License: MIT" in facts
    assert "Requires-Dist: spacy-electra>=" in facts


@pytest.mark.parametrize("name", ["spacy_electra_try", "spacy-electra-try"])
def test_the_name_is_enough(installed: Path, tmp_path: Path, name: str):
    program = [sys.executable, "-c", LOAD, name]
    environment = {"PYTHONPATH": str(installed), "HF_HUB_OFFLINE": "1", "PATH": ""}
    told = subprocess.run(program, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True).stdout
    assert told.split()[:2] == ["4", "8000"]


def test_a_folder_of_that_name_comes_first(installed: Path, tmp_path: Path):
    (tmp_path / "spacy_electra_try").mkdir()
    program = [sys.executable, "-c", LOAD, "spacy_electra_try"]
    environment = {"PYTHONPATH": str(installed), "HF_HUB_OFFLINE": "1", "PATH": ""}
    done = subprocess.run(program, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert "spacy_electra_try is no Hugging Face model: it has no config.json" in done.stderr


def test_a_folder_without_a_model_is_refused(tmp_path: Path):
    root = Path(__file__).parents[2]
    program = [sys.executable, SCRIPT, str(tmp_path), str(tmp_path / "dist"), "--name", "a", "--version", "1"]
    done = subprocess.run(program, cwd=root, capture_output=True, text=True)
    assert done.returncode == 1
    assert "is no Hugging Face model" in " ".join(done.stderr.split())
    assert not (tmp_path / "dist").exists()
