"""`quantize` tries bytes on annotated documents and writes the first mixture that keeps every score."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import spacy
import torch
from spacy.language import Language
from spacy.tokens import Doc, DocBin
from spacy.training import Example

from spacy_electra.cli import quantize as command
from spacy_electra.model.int8 import multiplies_int8, parts_of
from spacy_electra.pipeline.quantization import encoder_in

Invoke = Callable[..., Any]

WEIGHTS = Path(__file__).parents[2] / "assets" / "electra-tiny" / "discriminator"
SECTION = "components.transformer.model"
TEXTS = ["The parser raises an error.", "A file of the library is empty.", "It reads rows and writes tensors."]
NAMES = parts_of(4)  # of the weights above
LOSS = 0.0004  # of a score, by each part in bytes

pytestmark = pytest.mark.skipif(not multiplies_int8(torch.device("cpu")), reason="this processor has no byte products")


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Transformer and tagger, whose training weighs the tags."""
    nlp = spacy.blank("en")
    model = {"@architectures": "spacy-electra.ElectraTransformer.v1", "name": str(WEIGHTS), "precision": "fp32"}
    nlp.add_pipe("transformer", config={"model": model})
    listener = {"@architectures": "spacy-transformers.TransformerListener.v1", "grad_factor": 1.0}
    pooled = {**listener, "pooling": {"@layers": "reduce_mean.v1"}}
    nlp.add_pipe("tagger", config={"model": {"@architectures": "spacy.Tagger.v2", "tok2vec": pooled}})
    nlp.initialize(lambda: [Example(nlp.make_doc(doc.text), doc) for doc in annotated(nlp)])
    nlp.config = nlp.config.merge({"training": {"score_weights": {"tag_acc": 1.0, "tag_micro_p": None}}})
    path = tmp_path_factory.mktemp("quantize") / "pipeline"
    nlp.to_disk(path)
    return path


@pytest.fixture(scope="module")
def data(pipeline: Path) -> Path:
    path = pipeline.parent / "dev.spacy"
    DocBin(docs=annotated(spacy.blank("en"))).to_disk(path)
    return path


def annotated(nlp: Language) -> list[Doc]:
    docs = [nlp.make_doc(text) for text in TEXTS]
    for doc in docs:
        for token in doc:
            token.tag_ = "LONG" if len(token) > 3 else "SHORT"
    return docs


@pytest.fixture
def losing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scores that every part in bytes lowers alike."""

    def score(nlp: Language, examples: Sequence[Example], names: Sequence[str]) -> tuple[dict[str, float], float]:
        shim: Any = encoder_in(nlp, SECTION).shims[0]
        in_bytes = len(NAMES) - len(shim.int8_excluded) if shim.precision == "int8" else 0
        return dict.fromkeys(names, 0.9 - LOSS * in_bytes), 1000.0

    monkeypatch.setattr(command, "evaluate", score)


def test_bytes_that_move_no_score_far_are_taken_at_once(electra: Invoke, pipeline: Path, data: Path, tmp_path: Path):
    told = electra("quantize", pipeline, data, tmp_path / "out", "--within", 100)
    assert "100% of its products by weights are of bytes" in told
    nlp = spacy.load(tmp_path / "out")
    assert nlp.config["components"]["transformer"]["model"]["precision"] == "int8"
    assert nlp.config["components"]["transformer"]["model"]["int8_excluded"] is None
    assert nlp(TEXTS[0])[0].tag_ in ("LONG", "SHORT")


@pytest.mark.usefixtures("losing")
def test_parts_go_back_to_16_bits_until_every_score_is_within(
    electra: Invoke, pipeline: Path, data: Path, tmp_path: Path
):
    told = electra("quantize", pipeline, data, tmp_path / "out", "--within", 0.2, "--json", tmp_path / "tried.json")
    tried = json.loads((tmp_path / "tried.json").read_text(encoding="utf8"))["tried"]
    changes = [100 * (trial["scores"]["tag_acc"] - 0.9) for trial in tried]
    assert changes == pytest.approx([-0.32, -0.28, -0.24, -0.20])
    excluded = [part["part"] for part in tried[-1]["int8_excluded"]]
    assert len(excluded) == 3
    assert set(excluded) < set(NAMES)
    assert f"In 16 bits: {', '.join(excluded)}" in told
    config = spacy.load(tmp_path / "out").config["components"]["transformer"]["model"]
    assert (config["precision"], config["int8_excluded"]) == ("int8", excluded)


@pytest.mark.usefixtures("losing")
def test_where_no_part_may_be_in_bytes_the_pipeline_is_auto(
    electra: Invoke, pipeline: Path, data: Path, tmp_path: Path
):
    told = electra("quantize", pipeline, data, tmp_path / "out", "--within", 0.03)
    assert "No part may be in bytes" in told
    assert spacy.load(tmp_path / "out").config["components"]["transformer"]["model"]["precision"] == "auto"


def test_scores_that_move_even_without_bytes_write_nothing(
    complaint: Invoke, pipeline: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    scores = iter([0.9, *[0.8] * 9])
    monkeypatch.setattr(command, "evaluate", lambda nlp, examples, names: ({"tag_acc": next(scores)}, 1.0))
    told = complaint("quantize", pipeline, data, tmp_path / "out")
    assert "even without bytes some score is further than 0.1 points" in told
    assert not (tmp_path / "out").exists()


def test_a_pipeline_that_is_there_is_replaced_only_when_asked(
    electra: Invoke, complaint: Invoke, pipeline: Path, data: Path, tmp_path: Path
):
    electra("quantize", pipeline, data, tmp_path / "out", "--within", 100)
    assert "holds a pipeline already: add --overwrite" in complaint("quantize", pipeline, data, tmp_path / "out")
    electra("quantize", pipeline, data, tmp_path / "out", "--within", 100, "--overwrite")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "there is no file"),
        (b"no zlib", "cannot be read as a .spacy file"),
        (DocBin().to_bytes(), "holds no documents"),
    ],
)
def test_documents_that_are_none_are_told_with_their_file(
    complaint: Invoke, pipeline: Path, tmp_path: Path, content: bytes | None, told: str
):
    path = tmp_path / "dev.spacy"
    if content is not None:
        path.write_bytes(content)
    answer = complaint("quantize", pipeline, path, tmp_path / "out")
    assert told in answer
    assert "dev.spacy" in answer


def test_a_score_that_the_documents_lack_is_told_with_those_they_have(
    complaint: Invoke, pipeline: Path, data: Path, tmp_path: Path
):
    told = complaint("quantize", pipeline, data, tmp_path / "out", "--scores", "ents_f, tag_acc")
    assert "no score 'ents_f'" in told
    assert "tag_acc" in told


def test_a_pipeline_without_our_transformer_is_told_what_it_has(complaint: Invoke, data: Path, tmp_path: Path):
    nlp = spacy.blank("en")
    nlp.add_pipe("sentencizer")
    nlp.to_disk(tmp_path / "plain")
    told = complaint("quantize", tmp_path / "plain", data, tmp_path / "out")
    assert "has no transformer of this package" in told
    assert "sentencizer" in told


def test_a_processor_without_byte_products_is_told(
    complaint: Invoke, pipeline: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(command, "multiplies_int8", lambda device: False)
    assert "no units that multiply bytes" in complaint("quantize", pipeline, data, tmp_path / "out")
