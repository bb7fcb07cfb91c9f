"""spaCy's own commands on the configs of `configs/`, from training to a package that needs nothing of its origin."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from email.parser import Parser
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import pytest
import spacy
import torch
from confection import Config
from spacy.cli._util import app as spacy_app
from spacy.tokens import Doc, DocBin, Span
from spacy.training import Corpus
from spacy.util import load_config
from transformers import AutoModel, AutoTokenizer
from typer.testing import CliRunner

CONFIGS = Path(__file__).parents[2] / "configs"
Invoke = Callable[..., Any]
Spacy = Callable[..., str]
# words, heads, entities and category of four sentences; tags and labels are made up from them
SENTENCES = [
    ("The model reads the file .", [1, 2, 2, 4, 2, 2], ["O"] * 4 + ["B-FILE", "O"], "docs"),
    ("A row is not found .", [1, 4, 4, 4, 4, 4], ["O"] * 6, "bug"),
    ("It returns the small tensor !", [1, 1, 4, 4, 1, 1], ["O", "O", "O", "B-DATA", "I-DATA", "O"], "bug"),
    ("The library writes a large file .", [1, 2, 2, 5, 5, 2, 2], ["O"] * 5 + ["B-FILE", "O"], "docs"),
]
PARTS = ["transformer", "ner"]
TEXTS = ["The library reads a small file.", "A model is not found!", ""]
BUILD = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"
PARSE = """
import json, sys, spacy
print(json.dumps([doc.to_json() for doc in spacy.load("en_tiny").pipe(json.loads(sys.argv[1]))]))
"""


@pytest.fixture(scope="module")
def spacy_command() -> Spacy:
    """Run `python -m spacy ARGUMENTS`, which must succeed; what it printed."""

    def run(*arguments: Any) -> str:
        result = CliRunner().invoke(spacy_app, [str(argument) for argument in arguments])
        assert result.exit_code == 0, f"{result.stdout}\n{result.stderr}\n{result.exception!r}"
        return result.stdout

    return run


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The four sentences, ten times: a parser's transitions must not be rare."""
    vocab, docs = spacy.blank("en").vocab, []
    for text, heads, entities, category in SENTENCES:
        words = text.split()
        deps = ["ROOT" if head == place else "dep" if head < place else "mod" for place, head in enumerate(heads)]
        tags = ["." if word in ".!" else "LONG" if len(word) > 3 else "SHORT" for word in words]
        pos = ["PUNCT" if word in ".!" else "NOUN" for word in words]
        lemmas = [word.lower().removesuffix("s") for word in words]
        more = {"tags": tags, "pos": pos, "morphs": [""] * len(tags), "lemmas": lemmas}
        doc = Doc(vocab, words=words, heads=heads, deps=deps, ents=entities, **more)
        doc.cats = {name: float(name == category) for name in ("bug", "docs")}
        doc.spans["sc"] = [Span(doc, ent.start, ent.end, label=ent.label) for ent in doc.ents]
        docs.append(doc)
    path = tmp_path_factory.mktemp("data") / "sentences.spacy"
    DocBin(docs=docs * 10, store_user_data=True).to_disk(path)
    return path


@pytest.fixture(scope="module")
def discriminator(run_dir: Path) -> Path:
    return run_dir / "model-last" / "discriminator"


@pytest.fixture(scope="module")
def trained(spacy_command: Spacy, data: Path, discriminator: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `spacy train configs/all.cfg` leaves as model-last. The discriminator it read is no longer there."""
    folder = tmp_path_factory.mktemp("trained")
    weights = shutil.copytree(discriminator, folder / "discriminator")
    paths = ("--paths.train", data, "--paths.dev", data, "--paths.discriminator", weights)
    steps = ("--training.max_steps", 60, "--training.eval_frequency", 30, "--training.batcher.size", 100)
    spacy_command("train", CONFIGS / "all.cfg", "--output", folder / "output", *paths, *steps)
    shutil.rmtree(weights)
    return folder / "output" / "model-last"


@pytest.fixture(scope="module")
def assembled(spacy_command: Spacy, discriminator: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with training/encoder, where frozen.cfg looks for it."""
    folder = tmp_path_factory.mktemp("assembled")
    output = folder / "training" / "encoder"
    spacy_command("assemble", CONFIGS / "encoder.cfg", output, "--paths.discriminator", discriminator)
    return folder


def vectors_in(discriminator: Path, text: str) -> np.ndarray:
    """(1, pieces, width) by Hugging Face's classes."""
    read = AutoTokenizer.from_pretrained(discriminator)([text], return_tensors="pt")
    with torch.no_grad():
        return AutoModel.from_pretrained(discriminator)(**read).last_hidden_state[:, 1:-1].numpy()


@pytest.mark.parametrize(
    "setting",
    [
        ("precision", "fp8"),
        ("weights_on_disk", "int4"),
        ("dropout", 2),
        ("cache_mb", -1),
        ("stride", 0),
        ("freeze_layers", -1),
    ],
)
def test_a_wrong_setting_of_the_transformer_ends_without_a_traceback(data: Path, setting: tuple[str, Any]):
    override = (f"--components.transformer.model.{setting[0]}", setting[1])
    paths = ("--paths.train", data, "--paths.dev", data)
    command = [str(part) for part in ("debug", "config", CONFIGS / "ner.cfg", *paths, *override)]
    result = CliRunner().invoke(spacy_app, command)
    assert isinstance(result.exception, SystemExit)
    assert f"{setting[0]} must be" in " ".join((result.stdout + result.stderr).split())


def test_evaluate_scores_every_component(spacy_command: Spacy, trained: Path, data: Path, tmp_path: Path):
    spacy_command("evaluate", trained, data, "--output", tmp_path / "scores.json")
    scores = json.loads((tmp_path / "scores.json").read_text())
    nlp = spacy.load(trained)
    expected = nlp.evaluate(list(Corpus(data)(nlp)))
    for name in ("tag_acc", "pos_acc", "dep_las", "ents_f", "cats_score"):
        assert scores[name] == pytest.approx(expected[name])
        assert expected[name] > 0.6, name


def test_every_other_component_of_init_config_learns(
    electra: Invoke, spacy_command: Spacy, data: Path, discriminator: Path, tmp_path: Path
):
    names = "trainable_lemmatizer,senter,spancat,textcat_multilabel"
    electra("init-config", tmp_path / "configs", "--pipeline", names)
    paths = ("--paths.train", data, "--paths.dev", data, "--paths.discriminator", discriminator)
    steps = ("--training.max_steps", 60, "--training.eval_frequency", 30, "--training.batcher.size", 100)
    spacy_command("train", tmp_path / "configs" / "pipeline.cfg", "--output", tmp_path / "output", *paths, *steps)
    nlp = spacy.load(tmp_path / "output" / "model-last")
    scores = nlp.evaluate(list(Corpus(data)(nlp)))
    for name in ("lemma_acc", "sents_f", "spans_sc_f", "cats_macro_auc"):
        assert scores[name] > 0.6, (name, scores[name])


def test_a_frozen_transformer_stays_as_it_is_and_heads_learn_on_it(
    spacy_command: Spacy, assembled: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(assembled)
    steps = ("--training.max_steps", 60, "--training.eval_frequency", 30, "--training.batcher.size", 100)
    spacy_command(
        "train", CONFIGS / "frozen.cfg", "--output", tmp_path, "--paths.train", data, "--paths.dev", data, *steps
    )
    nlp = spacy.load(tmp_path / "model-last")
    before = spacy.load(assembled / "training" / "encoder").get_pipe("transformer").to_bytes(exclude=["vocab"])
    assert nlp.get_pipe("transformer").to_bytes(exclude=["vocab"]) == before
    assert nlp.evaluate(list(Corpus(data)(nlp)))["tag_acc"] > 0.6


@pytest.mark.parametrize("made_by", ["train", "assemble"])
def test_a_pipeline_on_disk_names_no_folder_of_the_machine_that_made_it(made_by: str, trained: Path, assembled: Path):
    folder = trained if made_by == "train" else assembled / "training" / "encoder"
    texts = [path.read_text(encoding="utf8") for path in folder.rglob("*") if path.suffix in (".cfg", ".json")]
    assert len(texts) >= 2
    assert not any(tempfile.gettempdir() in text for text in texts)


def test_benchmark_speed_counts_words(spacy_command: Spacy, trained: Path, data: Path):
    said = spacy_command("benchmark", "speed", trained, data, "--batches", 30, "--batch-size", 2, "--warmup", 1)
    assert float(said.split("Mean: ")[1].split(" words/s")[0]) > 0


def test_an_assembled_encoder_gives_the_vectors_of_its_directory(assembled: Path, discriminator: Path):
    nlp = spacy.load(assembled / "training" / "encoder", config={"components.transformer.model.precision": "fp32"})
    assert nlp.pipe_names == ["transformer"]
    text = "the model reads the file"
    np.testing.assert_allclose(nlp(text)._.trf_data.tensors[0], vectors_in(discriminator, text), atol=1e-5)


def test_a_pipeline_is_assembled_from_parts_of_another(spacy_command: Spacy, trained: Path, tmp_path: Path):
    config = Config(
        {"nlp": {"lang": "en", "pipeline": PARTS}, "components": {n: {"source": str(trained)} for n in PARTS}}
    )
    config.to_disk(tmp_path / "parts.cfg")
    spacy_command("assemble", tmp_path / "parts.cfg", tmp_path / "parts")
    parts, whole = spacy.load(tmp_path / "parts"), spacy.load(trained)
    assert parts.pipe_names == PARTS
    for doc, wanted in zip(parts.pipe(TEXTS), whole.pipe(TEXTS), strict=True):
        assert [(e.text, e.label_) for e in doc.ents] == [(e.text, e.label_) for e in wanted.ents]
    assert parts(TEXTS[0]).ents


def test_debug_config_and_fill_config_take_the_frozen_pipeline_where_its_encoder_is(
    spacy_command: Spacy, assembled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(assembled)
    spacy_command("debug", "config", CONFIGS / "frozen.cfg")
    spacy_command("init", "fill-config", CONFIGS / "frozen.cfg", tmp_path / "filled.cfg")
    filled = load_config(tmp_path / "filled.cfg")
    assert filled == load_config(CONFIGS / "frozen.cfg")


def test_a_package_requires_what_it_needs_and_works_alone(spacy_command: Spacy, trained: Path, tmp_path: Path):
    spacy_command("package", trained, tmp_path, "--name", "tiny", "--version", "1.2.3", "--build", "none")
    folder, site = tmp_path / "en_tiny-1.2.3", tmp_path / "site"
    subprocess.run([sys.executable, "-c", BUILD, str(tmp_path)], cwd=folder, check=True, capture_output=True)
    ZipFile(tmp_path / "en_tiny-1.2.3-py3-none-any.whl").extractall(site)
    shutil.rmtree(folder)
    metadata = Parser().parsestr((site / "en_tiny-1.2.3.dist-info" / "METADATA").read_text(encoding="utf8"))
    required = {str(line).partition("<")[0].partition(">")[0] for line in metadata.get_all("Requires-Dist")}
    assert {"spacy-electra", "spacy-transformers"} <= required

    found = os.pathsep.join([str(site), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": found, "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", PARSE, json.dumps(TEXTS)]
    answer = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    for got, doc in zip(json.loads(answer.stdout), spacy.load(trained).pipe(TEXTS), strict=True):
        wanted = doc.to_json()
        assert got.pop("cats") == pytest.approx(wanted.pop("cats"), abs=1e-2)
        assert got == wanted
