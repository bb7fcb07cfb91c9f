"""The program for graphics cards, on the processor: it runs, and its figures are those of the programs it names."""

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from gpu import small, train

from spacy_electra.data.building import build_store
from spacy_electra.data.corpus import Document
from spacy_electra.data.wordpiece import WordPiece

ROOT = Path(__file__).parents[2]


def test_ours_is_timed_beside_the_reference(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small("cpu", rounds=2, rows=2, compiled=False, shape="tiny", json_path=tmp_path / "small.json")
    facts = json.loads((tmp_path / "small.json").read_text())
    assert json.loads(capsys.readouterr().out) == facts
    (row,) = facts["rows"]
    ours, reference = row["ours"]["pieces_a_second"], row["reference"]["pieces_a_second"]
    assert row["reference"]["ours_to_this"] == pytest.approx(ours / reference, rel=1e-2)
    assert 0 < row["ours"]["share_of_peak"] < 1


def test_a_run_is_stopped_half_way_and_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tokenizer = WordPiece.load(ROOT / "assets" / "electra-tiny" / "discriminator")
    text = "The library reads a small file and returns what stands in it, line by line. "
    documents = (Document(text=text * 20 + str(number), source="test.jsonl", line=number) for number in range(60))
    build_store(documents, tokenizer, tmp_path / "store")
    config = ROOT / "configs" / "pretrain-tiny.cfg"
    text = config.read_text(encoding="utf8").replace('initialization = "corpus"', 'initialization = "local"')
    (tmp_path / "tiny.cfg").write_text(text, encoding="utf8")
    train(tmp_path / "store", tmp_path / "run", minutes=0.1, config=tmp_path / "tiny.cfg", device="cpu", json_path=None)
    first, second = json.loads(capsys.readouterr().out)["halves"]
    assert first["from_step"] == 0
    assert first["to_step"] == second["from_step"] < second["to_step"]
    assert second["scores"]["generator_loss"] > 0
    assert (tmp_path / "run" / "model-last" / "discriminator" / "model.safetensors").is_file()
