"""evaluate, export, debug config and debug model: what they say of a run and of a config."""

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import spacy
import torch
from spacy.tokens import DocBin, Span
from transformers import AutoModel, AutoTokenizer

from spacy_electra.cli.configs import config_text, encoder_config, pipeline_config
from spacy_electra.cli.runs import config_beside, model_folder
from spacy_electra.model.files.hub import find_discriminator
from spacy_electra.model.files.saved_model import read_model

Invoke = Callable[..., Any]


def last_scores(run: Path) -> dict[str, float]:
    return json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])["scores"]


@pytest.mark.parametrize("inside", ["", "model-last", "model-last/discriminator"])
def test_evaluate_repeats_the_last_scores_of_the_run(
    electra: Invoke, tmp_path: Path, run_dir: Path, store_dir: Path, inside: str
):
    electra("evaluate", run_dir / inside, store_dir, "--json", tmp_path / "new" / "scores.json")
    written = json.loads((tmp_path / "new" / "scores.json").read_text())
    assert written["scores"] == pytest.approx(last_scores(run_dir), rel=1e-4)
    assert written["rows"] == 8


def test_evaluate_on_all_documents_reads_other_rows(electra: Invoke, tmp_path: Path, run_dir: Path, store_dir: Path):
    electra("evaluate", run_dir, store_dir, "--all", "--rows", 20, "--json", tmp_path / "s.json")
    written = json.loads((tmp_path / "s.json").read_text())
    assert written["rows"] == 20
    assert written["scores"]["loss"] != pytest.approx(last_scores(run_dir)["loss"], rel=1e-4)


def test_evaluate_takes_a_model_that_left_its_run(electra: Invoke, tmp_path: Path, run_dir: Path, store_dir: Path):
    shutil.copytree(run_dir / "model-last", tmp_path / "model")
    electra("evaluate", tmp_path / "model", store_dir, "--json", tmp_path / "s.json")
    assert json.loads((tmp_path / "s.json").read_text())["scores"]["generator_loss"] > 0


def test_evaluate_takes_a_model_whose_discriminator_guesses_as_well(electra: Invoke, corpus_path: Path, tmp_path: Path):
    model = Path(__file__).parents[2] / "assets" / "electra-tiny"  # its generator holds nothing but a head
    electra("tokenize", corpus_path, tmp_path / "store", "--tokenizer", model / "discriminator")
    electra("evaluate", model, tmp_path / "store", "--all", "--json", tmp_path / "s.json")
    assert json.loads((tmp_path / "s.json").read_text())["scores"]["generator_accuracy"] > 0.1


def test_evaluate_needs_both_halves_and_the_same_vocabulary(
    electra: Invoke, complaint: Invoke, tmp_path: Path, run_dir: Path, store_dir: Path, corpus_path: Path
):
    shutil.copytree(run_dir / "model-last" / "discriminator", tmp_path / "half")
    assert "has no generator beside" in complaint("evaluate", tmp_path / "half", store_dir)
    electra("train-tokenizer", corpus_path, tmp_path / "t", "--vocab-size", 90)
    electra("tokenize", corpus_path, tmp_path / "store", "--tokenizer", tmp_path / "t")
    assert "(90 pieces against 120 pieces, " in complaint("evaluate", run_dir, tmp_path / "store")
    assert "holds no finished store" in complaint("evaluate", run_dir, tmp_path / "nowhere")


def test_a_run_without_the_model_asked_for_is_refused(tmp_path: Path):
    (tmp_path / "latest").write_text("step-00000001")
    with pytest.raises(FileNotFoundError, match="has no model-last: the run has not ended"):
        model_folder(str(tmp_path))
    with pytest.raises(FileNotFoundError, match="has no model-best"):
        model_folder(str(tmp_path), best=True)
    assert model_folder("google/electra-small-discriminator") == "google/electra-small-discriminator"


@pytest.mark.parametrize("given", ["", "model-last"])
@pytest.mark.parametrize("command", ["export", "evaluate"])
def test_a_pipeline_is_refused_by_name_where_a_run_is_expected(
    complaint: Invoke, tmp_path: Path, command: str, given: str
):
    spacy.blank("en").to_disk(tmp_path / "model-last")
    said = complaint(command, tmp_path / given, tmp_path / "out")
    assert "is a spaCy pipeline, expected a pretrained model" in said


def test_the_config_of_a_run_is_found_from_its_models(run_dir: Path, tmp_path: Path):
    assert config_beside(run_dir / "model-last" / "discriminator") == run_dir / "config.cfg"
    assert config_beside(tmp_path / "a" / "b" / "c") is None


def test_the_config_of_a_pipeline_above_a_model_is_not_taken_for_that_of_its_run(tmp_path: Path):
    (tmp_path / "config.cfg").write_text('[paths]\ntrain = null\n\n[nlp]\nlang = "en"\n')
    assert config_beside(tmp_path / "models" / "electra") is None


def test_hugging_face_reads_what_export_writes(electra: Invoke, tmp_path: Path, run_dir: Path):
    electra("export", run_dir, tmp_path / "out")
    ours, theirs = tmp_path / "out", run_dir / "model-last" / "discriminator"
    ids = AutoTokenizer.from_pretrained(ours)(["the tensor is not found"], return_tensors="pt")
    with torch.no_grad():
        exported, original = (AutoModel.from_pretrained(path)(**ids).last_hidden_state for path in (ours, theirs))
    assert torch.equal(exported, original)
    assert json.loads((ours / "config.json").read_text())["architectures"] == ["ElectraModel"]


def test_export_can_keep_the_first_layers(electra: Invoke, complaint: Invoke, tmp_path: Path, run_dir: Path):
    electra("export", run_dir, tmp_path / "out", "--layers", 1)
    short, whole = (AutoModel.from_pretrained(p) for p in (tmp_path / "out", run_dir / "model-last" / "discriminator"))
    ids = torch.tensor([[2, 7, 8, 9, 3]])
    with torch.no_grad():
        states = whole(ids, output_hidden_states=True).hidden_states
        assert torch.allclose(short(ids).last_hidden_state, states[1], atol=1e-6)
    assert "more than the 2 layers" in complaint("export", run_dir, tmp_path / "more", "--layers", 3)


def test_export_to_onnx_gives_the_vectors_of_hugging_face(electra: Invoke, tmp_path: Path, run_dir: Path):
    electra("export", run_dir, tmp_path / "out", "--onnx")
    ids = AutoTokenizer.from_pretrained(tmp_path / "out")(["the tensor is not found", "the"], padding=True)
    session = onnxruntime.InferenceSession(tmp_path / "out" / "model.onnx")
    inputs = {name: np.array(ids[name]) for name in ("input_ids", "attention_mask")}
    (vectors,) = session.run(["last_hidden_state"], inputs)
    model = AutoModel.from_pretrained(tmp_path / "out")
    with torch.no_grad():
        expected = model(**{name: torch.from_numpy(array) for name, array in inputs.items()}).last_hidden_state
    seen = inputs["attention_mask"].astype(bool)
    np.testing.assert_allclose(vectors[seen], expected.numpy()[seen], atol=1e-5)
    electra("export", run_dir, tmp_path / "out", "--overwrite")
    assert not (tmp_path / "out" / "model.onnx").exists()


def test_export_replaces_a_model_only_when_asked(electra: Invoke, complaint: Invoke, tmp_path: Path, run_dir: Path):
    electra("export", run_dir, tmp_path / "out")
    assert "holds a model already" in complaint("export", run_dir, tmp_path / "out")
    shutil.copytree(run_dir / "model-last", tmp_path / "halves")
    assert "holds a model already" in complaint("export", run_dir, tmp_path / "halves", "--layers", "1")
    electra("export", run_dir, tmp_path / "halves", "--layers", "1", "--overwrite")
    assert read_model(find_discriminator(str(tmp_path / "halves"))).shape.layers == 1


def test_export_replaces_a_tokenizer_only_when_asked(electra: Invoke, complaint: Invoke, tmp_path: Path, run_dir: Path):
    shutil.copytree(run_dir / "tokenizer", tmp_path / "tok")
    before = {path.name: path.read_bytes() for path in (tmp_path / "tok").iterdir()}
    assert "holds a tokenizer, which the model would replace" in complaint("export", run_dir, tmp_path / "tok")
    assert {path.name: path.read_bytes() for path in (tmp_path / "tok").iterdir()} == before
    electra("export", run_dir, tmp_path / "tok", "--overwrite")
    electra("export", run_dir, tmp_path / "out", "--overwrite", "--best")


def test_debug_config_says_what_would_run(electra: Invoke, pretrain_cfg: Path, tiny: list[str]):
    said = electra("debug", "config", pretrain_cfg, *tiny)
    assert "4 rows, 64 pieces" in said
    assert "256 in all steps" in said
    assert "40 documents" in said


def test_debug_config_warns_of_data_that_is_not_there_yet(electra: Invoke, pretrain_cfg: Path, tmp_path: Path):
    assert f"there is no {tmp_path}/x yet" in electra(
        "debug", "config", pretrain_cfg, "--paths.train", tmp_path / "x"
    ).replace("/ ", "/")


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        (("--training.max_step", "3"), "did you mean 'max_steps'?"),
        (("--model.discriminator.layer", "3"), "did you mean 'layers'?"),
        (("--training.mask_rate", "3"), "training.mask_rate"),
        (("--mask_rate", "3"), "No such option '--mask_rate'"),
    ],
)
def test_a_wrong_setting_is_named_with_the_nearest_valid_one(
    complaint: Invoke, pretrain_cfg: Path, override: tuple[str, str], expected: str
):
    assert expected in complaint("debug", "model", pretrain_cfg, *override)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        (("--model.objective", "elektra"), "model.objective: 'elektra' is none of 'electra', 'mlm'"),
        (("--model.initialization", "corpse"), "model.initialization: 'corpse' is none of"),
        (("--model.precision", "fp8"), "precision must be one of auto, fp32, bf16, fp16, but got 'fp8'"),
        (("--model.window", "2"), "[model] window must be at least 8 pieces, but got 2"),
        (("--model.window", "0"), "[model] window must be at least 8 pieces, but got 0"),
        (("--model.dropout", "5"), "[model] dropout must be at least 0 and below 1, but got 5"),
        (("--model.activation_checkpointing", "maybe"), "model.activation_checkpointing: 'maybe' is not"),
        (("--model.discriminator.layer", "3"), "did you mean 'layers'?"),
        (("--model.discriminator.layers", "0"), "layers must be a whole number from 1 to 16,777,216, but got 0"),
        (("--model.discriminator.heads", "3"), "width must be a multiple of heads"),
        (("--model.generator", "half"), "model.generator: 'half' is not"),
        (("--system.gpu_allocator", "torch"), 'system.gpu_allocator: must be "pytorch" or null'),
    ],
)
def test_debug_config_refuses_what_pretrain_would(
    complaint: Invoke, pretrain_cfg: Path, override: tuple[str, str], expected: str
):
    assert expected in complaint("debug", "config", pretrain_cfg, *override)


def test_debug_config_says_where_starting_weights_will_be_looked_for(electra: Invoke, pretrain_cfg: Path):
    said = electra("debug", "config", pretrain_cfg, "--paths.init", "nope")
    assert "paths.init: there is no folder nope" in said


def test_a_config_that_is_missing_or_broken_is_named(complaint: Invoke, tmp_path: Path):
    assert "there is no config" in complaint("debug", "config", tmp_path / "nowhere.cfg")
    (tmp_path / "broken.cfg").write_text("[paths\ntrain = 1")
    assert "section" in complaint("debug", "config", tmp_path / "broken.cfg")
    (tmp_path / "variable.cfg").write_text("[paths]\ntrain = ${nowhere.at_all}")
    assert "nowhere.at_all" in complaint("debug", "config", tmp_path / "variable.cfg")


def test_debug_model_counts_parameters_and_guesses_by_chance(electra: Invoke, pretrain_cfg: Path, tiny: list[str]):
    said = electra("debug", "model", pretrain_cfg, *tiny).split()
    # word 128 (120 pieces, padded), positions 16, types 2 of width 16, and a norm's 2 * 16
    assert said[said.index("embeddings") + 1] == f"{(128 + 16 + 2) * 16 + 2 * 16:,}"
    losses = {half: [float(x) for x in said[place + 1 : place + 3]] for half, place in _last_places(said).items()}
    assert losses["generator"] == pytest.approx([math.log(120)] * 2, rel=0.1)
    assert losses["discriminator"] == pytest.approx([math.log(2)] * 2, rel=0.5)


def _last_places(words: list[str]) -> dict[str, int]:
    return {half: len(words) - 1 - words[::-1].index(half) for half in ("generator", "discriminator")}


def test_debug_model_lists_shapes_when_asked(electra: Invoke, pretrain_cfg: Path, tiny: list[str]):
    assert "embeddings.word.weight (128, 16)" in electra("debug", "model", pretrain_cfg, "--shapes", *tiny)


def test_the_frozen_pipeline_trains_its_heads_on_an_assembled_transformer(run_dir: Path, tmp_path: Path):
    (tmp_path / "encoder.cfg").write_text(config_text(encoder_config(lang="en", gpu=False)))
    discriminator = str(run_dir / "model-last" / "discriminator")
    assembled = spacy.util.load_model_from_config(
        spacy.util.load_config(tmp_path / "encoder.cfg", overrides={"paths.discriminator": discriminator})
    )
    assembled.initialize()
    assembled.to_disk(tmp_path / "encoder")
    config = pipeline_config(["ner"], size="tiny", lang="en", gpu=False, frozen=True)
    config["paths"].update(
        encoder=str(tmp_path / "encoder"), train=str(_entities(tmp_path)), dev=str(_entities(tmp_path))
    )
    config["training"].update(max_steps=2, eval_frequency=1)
    nlp = spacy.training.initialize.init_nlp(config)
    before = assembled.get_pipe("transformer").model.to_bytes()
    (tmp_path / "trained").mkdir()
    best, _ = spacy.training.loop.train(nlp, tmp_path / "trained")
    assert best.get_pipe("transformer").model.to_bytes() == before
    trained = spacy.load(tmp_path / "trained" / "model-last")
    assert trained.pipe_names == ["transformer", "ner"]
    assert np.isfinite(trained.get_pipe("ner").model.get_ref("lower").get_param("W")).all()
    assert trained("The tensor is not found.").has_vector


def _entities(folder: Path) -> Path:
    nlp = spacy.blank("en")
    doc = nlp("The tensor is not found.")
    doc.set_ents([Span(doc, 1, 2, label="THING")])
    DocBin(docs=[doc] * 4).to_disk(folder / "train.spacy")
    return folder / "train.spacy"


def test_evaluate_refuses_a_folder_for_its_scores_before_it_scores(
    complaint: Invoke, tmp_path: Path, run_dir: Path, store_dir: Path
):
    assert f"--json {tmp_path} is a folder" in complaint("evaluate", run_dir, store_dir, "--json", tmp_path)
