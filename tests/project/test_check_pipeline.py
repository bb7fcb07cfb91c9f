"""Packaging without a network, and opening the package elsewhere."""

import json
import shutil
from pathlib import Path

import pytest
import spacy
from check_pipeline import describe, find_pipeline, unpack
from package_best import build_sdist, dev_score
from spacy.cli.package import package
from spacy.tokens import Doc

PIPES = ("tagger", "parser", "ner", "textcat")


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A pipeline without a model to train."""
    nlp = spacy.blank("en")
    nlp.add_pipe("sentencizer")
    nlp.to_disk(tmp_path / "model-best")
    return tmp_path / "model-best"


def test_the_dev_score_is_weighed_as_in_training(tmp_path: Path) -> None:
    scores = {"performance": {"ents_f": 0.4, "dep_las": 0.8, "speed": 1000.0, "ents_per_type": {"ORG": {"f": 0.1}}}}
    (tmp_path / "meta.json").write_text(json.dumps(scores))
    (tmp_path / "config.cfg").write_text(
        "[training]\n[training.score_weights]\nents_f = 0.25\ndep_las = 0.75\nspeed = null\nents_per_type = null\n"
    )
    assert dev_score(tmp_path) == pytest.approx(0.25 * 0.4 + 0.75 * 0.8)


def test_a_packaged_pipeline_is_found_and_opens(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    output = Path("packages")
    output.mkdir()
    package(saved, output, name="tiny", version="1.2.3", create_sdist=False)
    sdist = build_sdist(output / "en_tiny-1.2.3")
    assert sdist.name == "en_tiny-1.2.3.tar.gz"
    shutil.rmtree(saved)
    (tmp_path / "elsewhere").mkdir()
    assert sdist.is_file()
    unpack(sdist, tmp_path / "elsewhere")
    nlp = spacy.load(find_pipeline(tmp_path / "elsewhere"))
    assert (nlp.meta["version"], nlp.pipe_names) == ("1.2.3", ["sentencizer"])


def test_what_is_no_package_is_refused(tmp_path: Path) -> None:
    (tmp_path / "plain.tar.gz").write_text("no archive")
    with pytest.raises(FileNotFoundError, match="there is no package"):
        unpack(tmp_path / "plain.tar.gz", tmp_path)
    with pytest.raises(ValueError, match="expected one pipeline"):
        find_pipeline(tmp_path)


def test_an_answer_says_entities_category_and_parse() -> None:
    words = ["Redis", "crashes"]
    doc = Doc(spacy.blank("en").vocab, words=words, ents=["B-LIBRARY", "O"], heads=[1, 1], deps=["nsubj", "ROOT"])
    doc.cats = {"bug": 0.9, "docs": 0.1}
    assert describe(doc, PIPES) == "entities: Redis (LIBRARY)\ncategory: bug\nparse: Redis/nsubj crashes/ROOT"


def test_only_what_the_pipeline_has_must_answer() -> None:
    doc = Doc(spacy.blank("en").vocab, words=["Redis", "crashes"], ents=["B-LIBRARY", "O"])
    assert describe(doc, ["transformer", "ner"]) == "entities: Redis (LIBRARY)"


def test_an_empty_answer_fails() -> None:
    doc = Doc(spacy.blank("en").vocab, words=["Redis", "crashes"], ents=["B-LIBRARY", "O"])
    with pytest.raises(ValueError, match="gave no category and no parse"):
        describe(doc, PIPES)
