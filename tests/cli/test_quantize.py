"""`quantize` tries bytes on annotated documents and writes the first mixture that keeps every score."""

import json
import shutil
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
from spacy_electra.cli.quantize import read_examples
from spacy_electra.model.int8 import multiplies_int8, parts_of
from spacy_electra.pipeline.agreement import agreement
from spacy_electra.pipeline.quantization import Mixture, Part, Scored, evaluate, shim_in

Invoke = Callable[..., Any]

WEIGHTS = Path(__file__).parents[2] / "assets" / "electra-tiny" / "discriminator"
SECTION = "components.transformer.model"
TEXTS = ["The parser raises an error.", "A file of the library is empty.", "It reads rows and writes tensors."]
NAMES = parts_of(4)  # of the weights above
LOSS = 0.0004  # of a score, by each part in bytes

needs_units = pytest.mark.skipif(not multiplies_int8(torch.device("cpu")), reason="this processor has no byte products")


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
def units(monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor that multiplies bytes, for what is refused before any are multiplied."""
    monkeypatch.setattr(command, "multiplies_int8", lambda device: True)


@pytest.fixture
def losing(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Scores that every part in bytes lowers alike; gives the precisions that were scored, and their parts in bytes."""
    seen: list[tuple[str, int]] = []

    def score(nlp: Language, examples: Sequence[Example], names: Sequence[str]) -> Scored:
        shim = shim_in(nlp, SECTION)
        in_bytes = len(NAMES) - len(shim.int8_excluded) if shim.precision == "int8" else 0
        seen.append((shim.precision, in_bytes))
        return Scored(dict.fromkeys(names, 0.9 - LOSS * in_bytes), 1000.0)

    monkeypatch.setattr(command, "evaluate", score)
    return seen


def settings_of(path: Path) -> tuple[str, list[str] | None]:
    config = spacy.load(path).config["components"]["transformer"]["model"]
    return config["precision"], config["int8_excluded"]


@needs_units
def test_bytes_that_move_no_score_far_are_taken_at_once(
    electra: Invoke, pipeline: Path, data: Path, tmp_path: Path, losing: list[tuple[str, int]]
):
    told = electra("quantize", pipeline, data, tmp_path / "new" / "out", "--within", 0.32)
    assert losing == [("fp32", 0), ("auto", 0), ("int8", 8)]
    assert "94% of its products by weights are of bytes" in told  # all but the first block's queries, keys and values
    assert settings_of(tmp_path / "new" / "out") == ("int8", None)


@needs_units
def test_parts_go_back_to_16_bits_until_every_score_is_within(
    electra: Invoke, pipeline: Path, data: Path, tmp_path: Path, losing: list[tuple[str, int]]
):
    told = electra("quantize", pipeline, data, tmp_path / "out", "--within", 0.2, "--json", tmp_path / "tried.json")
    assert losing == [("fp32", 0), ("auto", 0), ("int8", 8), ("int8", 7), ("int8", 6), ("int8", 5)]
    answer = json.loads((tmp_path / "tried.json").read_text(encoding="utf8"))
    changes = [100 * (trial["scores"]["tag_acc"] - 0.9) for trial in answer["tried"]]
    assert changes == pytest.approx([0.0, -0.32, -0.28, -0.24, -0.20])
    assert answer["written"] is True
    assert {trial["annotated_alike"] for trial in answer["tried"]} == {1.0}  # of no documents
    excluded = [part["part"] for part in answer["tried"][-1]["int8_excluded"]]
    assert f"In 16 bits: {', '.join(excluded)}" in told
    assert settings_of(tmp_path / "out") == ("int8", excluded)


@needs_units
@pytest.mark.usefixtures("losing")
def test_where_no_part_may_be_in_bytes_the_pipeline_is_auto(
    electra: Invoke, pipeline: Path, data: Path, tmp_path: Path
):
    told = electra("quantize", pipeline, data, tmp_path / "out", "--within", 0.03)
    assert "No part may be in bytes" in told
    assert settings_of(tmp_path / "out") == ("auto", None)


@needs_units
def test_scores_that_move_even_without_bytes_write_no_pipeline(
    complaint: Invoke, pipeline: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    scores = iter([0.9, *[0.8] * 9])
    monkeypatch.setattr(command, "evaluate", lambda nlp, examples, names: Scored({"tag_acc": next(scores)}, 1.0))
    told = complaint("quantize", pipeline, data, tmp_path / "out", "--json", tmp_path / "tried.json")
    assert "even without bytes some score is further than 0.1 points" in told
    assert [path.name for path in tmp_path.iterdir()] == ["tried.json"]
    assert json.loads((tmp_path / "tried.json").read_text(encoding="utf8"))["written"] is False


@needs_units
def test_weights_are_tried_as_they_are_written(
    electra: Invoke, pipeline: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    shutil.copytree(pipeline, tmp_path / "pipeline")
    config = tmp_path / "pipeline" / "config.cfg"
    text = config.read_text(encoding="utf8")
    config.write_text(text.replace('weights_on_disk = "fp32"', 'weights_on_disk = "int8"'), encoding="utf8")
    tried: list[tuple[torch.Tensor, float]] = []

    def score(nlp: Language, examples: Sequence[Example], names: Sequence[str]) -> Scored:
        scored = evaluate(nlp, examples, names)
        tried.append((weight_of(nlp), scored.scores["tag_acc"]))
        return scored

    monkeypatch.setattr(command, "evaluate", score)
    options = ["--within", 100, "--json", tmp_path / "tried.json"]
    electra("quantize", tmp_path / "pipeline", data, tmp_path / "out", *options)
    written = spacy.load(tmp_path / "out")
    assert torch.equal(tried[-1][0], weight_of(written))
    assert not torch.equal(tried[0][0], weight_of(written))  # float32 has the weights as they were
    assert tried[-1][1] == written.evaluate(read_examples(written, data))["tag_acc"]
    full = spacy.load(pipeline, config={f"{SECTION}.precision": "fp32"})
    alike = agreement(list(written.pipe(TEXTS)), list(full.pipe(TEXTS)))
    assert json.loads((tmp_path / "tried.json").read_text(encoding="utf8"))["tried"][-1]["annotated_alike"] == alike


def weight_of(nlp: Language) -> torch.Tensor:
    return shim_in(nlp, SECTION).encoder.state_dict()["body.blocks.0.feed_forward.up.weight"].clone()


@needs_units
def test_a_pipeline_that_is_there_is_replaced_whole_when_asked(
    electra: Invoke, complaint: Invoke, pipeline: Path, data: Path, tmp_path: Path
):
    out = tmp_path / "out"
    shutil.copytree(pipeline, out)
    (out / "left").write_text("over", encoding="utf8")
    assert "holds a pipeline already: add --overwrite" in complaint("quantize", pipeline, data, out)
    assert settings_of(out) == ("fp32", None)
    electra("quantize", out, data, out, "--within", 100, "--overwrite")  # of itself
    assert settings_of(out) == ("int8", None)
    assert not (out / "left").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@needs_units
@pytest.mark.usefixtures("losing")
def test_an_interruption_leaves_the_pipeline_that_was_there(
    run_command: Invoke, pipeline: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def interrupted(sections: list[str], mixture: object) -> None:
        raise KeyboardInterrupt

    out = tmp_path / "out"
    shutil.copytree(pipeline, out)
    monkeypatch.setattr(command, "overrides_for", interrupted)
    result = run_command("quantize", pipeline, data, out, "--overwrite")
    assert result.exit_code == 130
    assert "Interrupted: nothing was written." in result.stderr
    assert settings_of(out) == ("fp32", None)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.usefixtures("units")
@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("dev.spacy", None, "there is no file"),
        ("dev.spacy", b"no zlib", "cannot be read as a .spacy file"),
        ("dev.spacy", DocBin().to_bytes(), "holds no documents"),
        ("dev.txt", b"text", "is no .spacy file"),
    ],
)
def test_documents_that_are_none_are_told_with_their_file(
    complaint: Invoke, pipeline: Path, tmp_path: Path, name: str, content: bytes | None, told: str
):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    answer = complaint("quantize", pipeline, tmp_path / name, tmp_path / "out")
    assert told in answer
    assert name in answer


@pytest.mark.usefixtures("units")
@pytest.mark.parametrize(
    ("out", "options", "told"),
    [
        ("file", [], "is a file: give a folder"),
        ("mine", ["--overwrite"], "holds something, but no pipeline"),
        ("out", ["--json", "mine"], "is a folder: give the path of a file"),
        ("out", ["--json", "out"], "is OUT_DIR, a folder: give the path of a file"),
        ("out", ["--scores", "ents_f, tag_acc"], "no score 'ents_f'"),
    ],
)
def test_outputs_that_cannot_be_are_told_before_bytes_are_tried(
    complaint: Invoke, pipeline: Path, data: Path, tmp_path: Path, out: str, options: list[str], told: str
):
    (tmp_path / "file").write_text("mine", encoding="utf8")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "config.cfg").write_text("mine", encoding="utf8")
    given = [str(tmp_path / option) if option in ("mine", "out") else option for option in options]
    assert told in complaint("quantize", pipeline, data, tmp_path / out, *given)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "mine"]
    assert (tmp_path / "mine" / "config.cfg").read_text(encoding="utf8") == "mine"


@pytest.mark.usefixtures("units")
def test_a_pipeline_without_our_transformer_is_told_what_it_has(complaint: Invoke, data: Path, tmp_path: Path):
    nlp = spacy.blank("en")
    nlp.add_pipe("sentencizer")
    nlp.to_disk(tmp_path / "plain")
    told = complaint("quantize", tmp_path / "plain", data, tmp_path / "out")
    assert "has no transformer of this package" in told
    assert "sentencizer" in told


@pytest.mark.usefixtures("units")
def test_a_config_that_weighs_no_scores_is_told(complaint: Invoke, pipeline: Path, data: Path, tmp_path: Path):
    shutil.copytree(pipeline, tmp_path / "pipeline")
    config = tmp_path / "pipeline" / "config.cfg"
    config.write_text(config.read_text(encoding="utf8").replace("tag_acc = 1.0", "tag_acc = 0.0"), encoding="utf8")
    assert "weighs no scores" in complaint("quantize", tmp_path / "pipeline", data, tmp_path / "out")


def test_a_processor_without_byte_products_is_told(
    complaint: Invoke, pipeline: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(command, "multiplies_int8", lambda device: False)
    assert "no units that multiply bytes" in complaint("quantize", pipeline, data, tmp_path / "out")


def test_a_part_is_named_with_its_encoder_where_there_are_several(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    mixture = Mixture("int8", (Part(SECTION, NAMES[0]),), 0.9)
    command.conclude(mixture, tmp_path, is_one=False)
    assert f"In 16 bits: layer.0.attention of {SECTION}" in capsys.readouterr().out


@needs_units
@pytest.mark.usefixtures("losing")
def test_code_is_imported_first(electra: Invoke, pipeline: Path, data: Path, tmp_path: Path):
    (tmp_path / "mine.py").write_text(
        "from spacy.language import Language\n@Language.component('quantized')\ndef mine(doc):\n    return doc\n",
        encoding="utf8",
    )
    shutil.copytree(pipeline, tmp_path / "pipeline")
    config = tmp_path / "pipeline" / "config.cfg"
    text = config.read_text(encoding="utf8").replace('"tagger"]', '"tagger", "mine"]')
    config.write_text(f'{text}\n[components.mine]\nfactory = "quantized"\n', encoding="utf8")
    electra("quantize", tmp_path / "pipeline", data, tmp_path / "out", "--code", tmp_path / "mine.py")
    assert spacy.load(tmp_path / "out").pipe_names == ["transformer", "tagger", "mine"]
