"""The measurement of `tokenize` runs, and both ways find the same pieces."""

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from tokenizing import main

from spacy_electra.data.tokenizer.wordpiece import train_wordpiece


@pytest.mark.usefixtures("capsys")
def test_the_library_and_the_store_have_the_same_number_of_pieces(tmp_path: Path) -> None:
    lines = [f"Release {number} fixes the parser." for number in range(50)]
    (tmp_path / "notes.txt").write_text("\n\n".join(lines), encoding="utf8")
    train_wordpiece(lines, vocab_size=200, cased=True, strip_accents=None).save(tmp_path / "tokenizer")
    main(tmp_path / "notes.txt", tmp_path / "tokenizer", rounds=1, processes="1", output=tmp_path / "found.json")
    facts = json.loads((tmp_path / "found.json").read_text())
    counts = {found["pieces"] for found in facts.values()}
    assert len(facts) == 2
    assert len(counts) == 1
    assert counts.pop() >= 50 * 4
