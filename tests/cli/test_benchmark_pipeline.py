"""The stock component that a pipeline is timed against has the same weights; what is counted is what is computed."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import spacy
import torch
from spacy.tokens import Doc, DocBin
from spacy.training import Example
from spacy.vocab import Vocab
from transformers import RobertaConfig

from spacy_electra.benchmark.measure import highest_memory
from spacy_electra.benchmark.pipeline_programs import PipelineSource, certain, component_step
from spacy_electra.benchmark.stock import (
    blank_with,
    counted_slots,
    stock_model,
    transformer_of,
    with_stock,
)
from spacy_electra.cli.benchmark_pipeline import Sources, Texts, rows_for
from spacy_electra.model.inference.buckets import SMALLEST
from spacy_electra.pipeline.transformer import shim_of_transformer

WEIGHTS = Path(__file__).parents[2] / "assets" / "electra-tiny" / "discriminator"
OURS = {"@architectures": "spacy-electra.ElectraTransformer.v2", "name": str(WEIGHTS), "precision": "fp32"}
TEXT = "The parser raises an error when the file is empty."


def test_the_stock_component_has_the_same_weights() -> None:
    ours, theirs = blank_with(OURS), with_stock(blank_with(OURS), WEIGHTS)
    vectors = []
    for nlp in (ours, theirs):
        data = nlp(TEXT)._.trf_data
        vectors.append(data.tensors[0].reshape(-1, data.width)[data.align.dataXd])
    assert transformer_of(theirs).model.name != transformer_of(ours).model.name
    np.testing.assert_allclose(*vectors, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("is_stock", "precision"), [(False, "fp32"), (False, "bf16"), (True, "fp32")])
def test_slots_are_those_of_the_pieces_with_specials_and_padding(is_stock: bool, precision: str) -> None:
    nlp = blank_with(OURS | {"precision": precision})
    shim = transformer_of(nlp).model.shims[0]
    texts = [TEXT, "Short."]
    long, short = (len(one.ids) + 2 for one in shim.tokenizer.encode(texts))
    if is_stock:
        nlp = with_stock(nlp, WEIGHTS)
    with counted_slots(nlp) as counts:
        transformer_of(nlp).predict([nlp.make_doc(text) for text in texts])
    if is_stock:
        assert sum(counts) == 2 * long
    else:
        assert long + short <= sum(counts) < long + short + SMALLEST  # a round number, in torch


@pytest.mark.parametrize(("batch", "calls"), [(256, 3), (1, 5)])
@pytest.mark.parametrize("is_stock", [False, True])
def test_a_component_is_timed_with_the_batches_that_its_pipe_makes(is_stock: bool, batch: int, calls: int) -> None:
    nlp = blank_with(OURS)
    if is_stock:
        nlp = with_stock(nlp, WEIGHTS)
    transformer_of(nlp).cfg["max_batch_items"] = 22  # words, padding included: two of 11, one, or all three of 2
    texts = [TEXT, "Short.", TEXT, "Short.", TEXT]
    step = component_step(nlp, texts, batch=batch)
    with counted_slots(nlp) as counts:
        assert step() == 37
    with counted_slots(nlp) as piped:
        list(transformer_of(nlp).pipe([nlp.make_doc(text) for text in texts], batch_size=batch))
    assert counts == piped
    assert len(counts) == calls


def test_spans_of_the_stock_component_fit_the_positions_of_its_model() -> None:
    """128 words, its default, are too long for the 128 positions of electra-tiny: some would stay without a piece."""
    assert stock_model(WEIGHTS)["get_spans"]["window"] == 64
    assert stock_model(WEIGHTS)["get_spans"]["stride"] == 48
    theirs = with_stock(blank_with(OURS), WEIGHTS)
    data = theirs(TEXT * 20)._.trf_data
    assert (data.align.lengths > 0).all()


def test_a_model_with_many_positions_gets_the_default_spans(tmp_path: Path) -> None:
    RobertaConfig(max_position_embeddings=514).save_pretrained(tmp_path)
    spans = stock_model(tmp_path)["get_spans"]
    assert (spans["window"], spans["stride"]) == (128, 96)


def test_a_row_tells_of_programs_in_processes_of_their_own() -> None:
    ballast = torch.ones(150_000_000)  # 0.6 GB of this process
    sources = Sources(
        ours=PipelineSource(str(WEIGHTS)), theirs=PipelineSource(str(WEIGHTS), stock=WEIGHTS), roberta=None
    )
    row = next(rows_for(Texts("some", [TEXT]), sources, rounds=1, threads=1))
    here = highest_memory(torch.device("cpu"))
    assert here is not None
    assert row.ours_gb is not None
    assert row.theirs_gb is not None
    assert max(row.ours_gb, row.theirs_gb) < here - 0.4
    shim = shim_of_transformer(transformer_of(blank_with(OURS | {"precision": "auto"})).model)
    assert row.ours_ran == {"backend": shim.choice.prediction.value}
    assert row.theirs_ran["precision"] == "fp32"
    assert row.theirs_ran["attention"] in {"eager", "sdpa"}  # up to version 4 of transformers and from 5 on
    del ballast


@pytest.mark.slow
def test_the_command_writes_its_table(electra: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "texts.jsonl").write_text(json.dumps({"text": TEXT}) + "\n", encoding="utf8")
    threads = torch.get_num_threads()
    options = ["--rounds", 1, "--no-roberta", "--json", tmp_path / "a.json"]
    electra("benchmark", "pipeline", WEIGHTS, tmp_path / "texts.jsonl", *options)
    torch.set_num_threads(threads)
    rows = json.loads((tmp_path / "a.json").read_text(encoding="utf8"))["rows"]
    assert len(rows) == 2
    for row in rows:
        assert row["unit"] == "words per CPU-second"
        assert row["ratio"] == pytest.approx(row["ours"] / row["theirs"])


@pytest.mark.slow
def test_a_whole_pipeline_is_timed_in_prediction_and_training(electra: Callable[..., Any], tmp_path: Path) -> None:
    nlp = blank_with(OURS)
    listener = {"@architectures": "spacy-transformers.TransformerListener.v1", "pooling": {"@layers": "reduce_mean.v1"}}
    tok2vec = {
        "@architectures": "spacy.TextCatCNN.v2",
        "exclusive_classes": True,
        "tok2vec": {**listener, "grad_factor": 1},
    }
    nlp.add_pipe("textcat", config={"model": tok2vec})
    doc = nlp.make_doc(TEXT)
    nlp.initialize(lambda: [Example.from_dict(doc, {"cats": {"A": 1.0, "B": 0.0}})])
    nlp.to_disk(tmp_path / "whole")
    (tmp_path / "texts.jsonl").write_text(json.dumps({"text": TEXT}) + "\n", encoding="utf8")
    threads = torch.get_num_threads()
    options = ["--rounds", 1, "--no-roberta", "--json", tmp_path / "a.json"]
    electra("benchmark", "pipeline", tmp_path / "whole", tmp_path / "texts.jsonl", *options)
    torch.set_num_threads(threads)
    rows = json.loads((tmp_path / "a.json").read_text(encoding="utf8"))["rows"]
    assert ["training step" in row["what"] for row in rows] == [False, False, False, True]


def test_the_most_likely_category_stands_in_for_gold() -> None:
    assert certain({"A": 0.2, "B": 0.7, "C": 0.1}) == {"A": 0.0, "B": 1.0, "C": 0.0}
    assert certain({}) == {}


def test_a_file_without_text_is_refused(complaint: Callable[..., Any], tmp_path: Path) -> None:
    DocBin(docs=[Doc(Vocab())]).to_disk(tmp_path / "none.spacy")
    message = complaint("benchmark", "pipeline", WEIGHTS, tmp_path / "none.spacy")
    assert "none.spacy holds no text" in message


def test_a_report_that_cannot_be_written_is_refused_before_anything_is_measured(
    complaint: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "texts.txt").write_text(TEXT, encoding="utf8")
    options = ["--no-roberta", "--json", tmp_path]
    message = complaint("benchmark", "pipeline", WEIGHTS, tmp_path / "texts.txt", *options)
    assert "--json" in message
    assert "cannot be written (is a folder)" in message


def test_texts_that_are_not_there_are_missed_before_anything_is_measured(
    complaint: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "texts.txt").write_text(TEXT, encoding="utf8")
    files = tmp_path / "texts.txt", tmp_path / "others.txt"
    assert "others.txt" in complaint("benchmark", "pipeline", WEIGHTS, *files, "--json", tmp_path / "a.json")
    assert not (tmp_path / "a.json").exists()


def test_a_pipeline_without_our_transformer_is_refused(complaint: Callable[..., Any], tmp_path: Path) -> None:
    nlp = spacy.blank("en")
    nlp.add_pipe("sentencizer")
    nlp.to_disk(tmp_path / "other")
    (tmp_path / "texts.txt").write_text(TEXT, encoding="utf8")
    message = complaint("benchmark", "pipeline", tmp_path / "other", tmp_path / "texts.txt")
    assert "has no component 'transformer' with spacy-electra.ElectraTransformer.v2" in message


@pytest.mark.parametrize("name", ["nowhere/at/all", "empty"])
def test_a_pipeline_that_is_not_there_is_missed_in_words_of_both_kinds(
    complaint: Callable[..., Any], tmp_path: Path, name: str
) -> None:
    (tmp_path / "a.txt").write_text(TEXT)
    (tmp_path / "empty").mkdir()
    said = " ".join(complaint("benchmark", "pipeline", tmp_path / name, tmp_path / "a.txt").split())
    assert "config.json" in said
    assert "Or give a spaCy pipeline's folder" in said
