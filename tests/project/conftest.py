"""The project's scripts import one another by name, as they do when `spacy project run` starts them."""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "scripts"))


@pytest.fixture
def assets() -> Path:
    return ROOT / "assets"


@pytest.fixture
def root() -> Path:
    return ROOT
