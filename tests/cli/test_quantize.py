"""`quantize` shows what int8 does to scores on annotated documents, and writes the pipeline with it."""

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
from spacy_electra.model.inference.backend import Backend, Machine, choose_backend
from spacy_electra.model.network.encoder import EncoderShape
from spacy_electra.pipeline.agreement import agreement
from spacy_electra.pipeline.quantization import Scored, shim_in

Invoke = Callable[..., Any]

WEIGHTS = Path(__file__).parents[2] / "assets" / "electra-tiny" / "discriminator"
SECTION = "components.transformer.model"
TEXTS = ["The parser raises an error.", "A file of the library is empty.", "It reads rows and writes tensors."]

SHAPE = EncoderShape(layers=1, width=64, feed_forward=64, heads=1, embedding=64, vocab=9, positions=9)
needs_kernels = pytest.mark.skipif(
    choose_backend("int8", torch.device("cpu"), SHAPE).prediction is not Backend.NATIVE_INT8,
    reason="no AVX512-VNNI, or spacy-electra-kernels is not installed",
)


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Transformer and tagger, whose training weighs the tags."""
    nlp = spacy.blank("en")
    model = {"@architectures": "spacy-electra.ElectraTransformer.v2", "name": str(WEIGHTS), "precision": "fp32"}
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
def units(assume: Callable[[Machine], None]) -> None:
    """A processor that multiplies integers of 8 bits, for what is refused before any are multiplied."""
    assume(Machine("cpu", vnni=True))


def settings_of(path: Path) -> tuple[str, list[str] | None]:
    config = spacy.load(path).config["components"]["transformer"]["model"]
    return config["precision"], config["int8_excluded"]


def lines_of(printed: str) -> dict[str, list[str]]:
    """The cells of each line of the table, by the precision that it begins with."""
    cells = [line.split() for line in printed.splitlines()]
    return {first: others for first, *others in filter(None, cells) if first in ("fp32", "auto", "int8")}


@needs_kernels
def test_scores_are_shown_in_each_precision_and_the_pipeline_is_written_in_int8(
    run_command: Invoke, pipeline: Path, data: Path, tmp_path: Path
):
    result = run_command("quantize", pipeline, data, tmp_path / "new" / "out", "--json", tmp_path / "found.json")
    assert result.exit_code == 0
    assert list(lines_of(result.stdout)) == ["fp32", "auto", "int8"]
    assert settings_of(tmp_path / "new" / "out") == ("int8", None)
    found = json.loads((tmp_path / "found.json").read_text(encoding="utf8"))["precisions"]
    for precision, facts in found.items():
        nlp = spacy.load(pipeline, config={f"{SECTION}.precision": precision})
        assert facts["scores"]["tag_acc"] == nlp.evaluate(read_examples(nlp, data))["tag_acc"]
        full = spacy.load(pipeline, config={f"{SECTION}.precision": "fp32"})
        assert facts["annotated_alike"] == agreement(list(nlp.pipe(TEXTS)), list(full.pipe(TEXTS)))
        assert facts["words_per_second"] > 0


@pytest.mark.usefixtures("units")
def test_the_table_says_how_far_scores_move(
    run_command: Invoke, pipeline: Path, data: Path, monkeypatch: pytest.MonkeyPatch
):
    scores = {"fp32": 0.9, "auto": 0.9005, "int8": 0.895}

    def score(nlp: Language, examples: Sequence[Example], names: Sequence[str]) -> Scored:
        return Scored(dict.fromkeys(names, scores[shim_in(nlp, SECTION).precision]), 1000.0)

    monkeypatch.setattr(command, "score_pipeline", score)
    lines = lines_of(run_command("quantize", pipeline, data).stdout)
    assert lines["fp32"] == ["90.00", "1,000"]
    assert lines["auto"] == ["+0.05", "100.00%", "1,000"]
    assert lines["int8"] == ["-0.50", "100.00%", "1,000"]


@needs_kernels
def test_a_pipeline_that_is_there_is_replaced_whole_when_asked(
    electra: Invoke, complaint: Invoke, pipeline: Path, data: Path, tmp_path: Path
):
    out = tmp_path / "out"
    shutil.copytree(pipeline, out)
    (out / "left").write_text("over", encoding="utf8")
    assert "holds a pipeline already: add --overwrite" in complaint("quantize", pipeline, data, out)
    assert settings_of(out) == ("fp32", None)
    electra("quantize", out, data, out, "--overwrite")  # of itself
    assert settings_of(out) == ("int8", None)
    assert not (out / "left").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@needs_kernels
def test_an_interruption_leaves_the_pipeline_that_was_there(
    run_command: Invoke, pipeline: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def interrupted(sections: list[str], precision: str) -> None:
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
        ("out", ["--json", "out/found.json"], "is inside OUT_DIR, which the pipeline replaces"),
        ("out", ["--scores", "ents_f, tag_acc"], "no score 'ents_f'"),
    ],
)
def test_outputs_that_cannot_be_are_told_before_anything_is_scored(
    complaint: Invoke, pipeline: Path, data: Path, tmp_path: Path, out: str, options: list[str], told: str
):
    (tmp_path / "file").write_text("mine", encoding="utf8")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "config.cfg").write_text("mine", encoding="utf8")
    given = [str(tmp_path / option) if option.startswith(("mine", "out")) else option for option in options]
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


def test_a_processor_without_the_kernels_is_told(
    complaint: Invoke, pipeline: Path, data: Path, tmp_path: Path, assume: Callable[[Machine], None]
):
    assume(Machine("cpu"))
    told = complaint("quantize", pipeline, data, tmp_path / "out")
    assert "cannot predict in int8 here: this processor has no AVX512-VNNI" in told
    assert "AMD processor from Zen 4 on" in told


@needs_kernels
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
