"""The measurement of the loader runs, and says what it found."""

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from loader import main

from spacy_electra.data.store.reader import Store


@pytest.mark.usefixtures("capsys")
def test_it_measures_a_store_of_the_size_asked_for(tmp_path: Path) -> None:
    main(tmp_path / "store", gigabytes=0.002, steps=2, looks=2, output=tmp_path / "loader.json")
    store = Store.open(tmp_path / "store")
    store.verify()
    facts = json.loads((tmp_path / "loader.json").read_text())
    assert facts["pieces"] == store.pieces >= 1_000_000
    assert facts["pieces_a_second"] > 0
    assert len(facts["mebibytes_in_the_epoch"]) >= 2
    assert len(facts["mebibytes_in_the_steps"]) == 2
