"""Parts of an encoder that multiply no bytes in int8, and which of them are tried first."""

import pickle
from functools import partial

import numpy as np
import pytest
import spacy
import torch
from confection import ConfigValidationError

from spacy_electra.model.files.int8 import parts_of
from spacy_electra.model.inference.backend import Backend, choose_backend
from spacy_electra.model.inference.native import GEMM_INT8, GEMM_INT16, NativeEncoder
from spacy_electra.model.network.encoder import Encoder, EncoderShape
from spacy_electra.pipeline.quantization import (
    encoder_sections,
    score_pipeline,
    scored_names,
    shim_in,
)
from spacy_electra.pipeline.transformer import shim_of_transformer

CPU = torch.device("cpu")
SHAPE = EncoderShape(layers=2, width=64, feed_forward=128, heads=2, embedding=16, vocab=160, positions=40)
NAMES = ["layer.0.attention", "layer.0.feed_forward", "layer.1.attention", "layer.1.feed_forward"]
TEXTS = ["The cat reads words.", "Unbelievably, apples sat on the encoder!", "mat " * 30]
SECTION, PRIVATE = "components.transformer.model", "components.tagger.model.tok2vec"
needs_kernels = pytest.mark.skipif(
    choose_backend("int8", CPU, SHAPE).prediction is not Backend.NATIVE_INT8,
    reason="no AVX512-VNNI, or spacy-electra-kernels is not installed",
)


@pytest.fixture
def make_wide(make_nlp, wide_dir):
    return partial(make_nlp, name=str(wide_dir))


@pytest.fixture
def private_nlp(make_nlp):
    """One shared encoder and a private one."""
    nlp = make_nlp(precision="int8", int8_excluded=NAMES[:1])
    nlp.replace_listeners("transformer", "tagger", ["model.tok2vec"])
    return nlp


def vectors(nlp):
    return np.asarray(nlp.get_pipe("transformer").predict([nlp.make_doc(text) for text in TEXTS]).vectors)


def test_a_model_has_two_parts_a_block():
    assert parts_of(2) == NAMES


@needs_kernels
@pytest.mark.parametrize("name", NAMES)
def test_the_kernels_multiply_no_bytes_in_an_excluded_part(name):
    torch.manual_seed(0)
    layers = NativeEncoder(Encoder(SHAPE), int8=True, excluded=[name])._encoder.layers
    kinds = {
        f"layer.{number}.{part}": {linear.precision for linear in linears}
        for number in range(2)
        for part, linears in (
            ("attention", [layers[number].output]),
            ("feed_forward", [layers[number].up, layers[number].down]),
        )
    }
    assert [part for part, found in kinds.items() if GEMM_INT8 not in found] == [name]
    assert (layers[1].qkv.precision == GEMM_INT8) == (name != "layer.1.attention")


@needs_kernels
@pytest.mark.usefixtures("without_amx")
def test_with_every_part_excluded_int8_is_auto_bit_for_bit(make_wide):
    plain, bytes_ = vectors(make_wide(precision="bf16")), vectors(make_wide(precision="int8"))
    assert (plain != bytes_).any()
    np.testing.assert_array_equal(vectors(make_wide(precision="int8", int8_excluded=NAMES)), plain)


@needs_kernels
def test_what_projects_embeddings_is_never_of_bytes():
    assert NativeEncoder(Encoder(SHAPE), int8=True)._encoder.projection.precision == GEMM_INT16


def test_an_unknown_part_is_refused_with_the_nearest_name(make_nlp):
    with pytest.raises(ConfigValidationError, match=r"'layer\.1\.atention'.*did you mean 'layer\.1\.attention'"):
        make_nlp(precision="int8", int8_excluded=["layer.1.atention"])


def test_a_part_that_the_saved_model_lacks_is_refused_when_it_is_loaded(make_nlp, tmp_path):
    make_nlp().to_disk(tmp_path)
    with pytest.raises(ValueError, match=r"^int8_excluded names 'layer\.7\.attention'.* 2 layers"):
        spacy.load(tmp_path, config={f"{SECTION}.int8_excluded": ["layer.7.attention"]})


def test_what_is_excluded_survives_disk_and_pickle(make_nlp, tmp_path):
    make_nlp(precision="int8", int8_excluded=NAMES[1:3]).to_disk(tmp_path)
    shim = shim_of_transformer(spacy.load(tmp_path).get_pipe("transformer").model)
    assert list(shim.int8_excluded) == NAMES[1:3]
    assert pickle.loads(pickle.dumps(shim)).int8_excluded == shim.int8_excluded


def test_a_private_encoder_excludes_what_the_shared_one_did(private_nlp):
    assert encoder_sections(private_nlp) == [SECTION, PRIVATE]
    assert [shim_in(private_nlp, section).int8_excluded for section in (SECTION, PRIVATE)] == [tuple(NAMES[:1])] * 2


def test_disabled_components_have_no_encoders_to_quantize(private_nlp):
    private_nlp.disable_pipe("tagger")
    assert encoder_sections(private_nlp) == [SECTION]


def test_a_precision_that_is_set_counts_from_the_next_prediction_on(make_nlp):
    nlp = make_nlp(precision="fp32", cache_mb=1.0)
    before = vectors(nlp)
    shim_in(nlp, SECTION).set_precision("bf16")
    assert (vectors(nlp) != before).any()
    shim_in(nlp, SECTION).set_precision("fp32")
    np.testing.assert_array_equal(vectors(nlp), before)
    with pytest.raises(ValueError, match="precision must be one of"):
        shim_in(nlp, SECTION).set_precision("int4")


def test_the_scores_to_keep_are_those_that_training_weighs():
    weights = {"tag_acc": 0.5, "ents_p": 0.0, "ents_per_type": None, "ents_f": 0.5, "speed": 0.1}
    assert scored_names({"training": {"score_weights": weights}}) == ["tag_acc", "ents_f"]
    assert scored_names({}) == []


def test_scores_are_those_of_spacy_on_all_documents(nlp, examples_of):
    scored = score_pipeline(nlp, examples_of(nlp), ["tag_acc"])
    assert scored.scores == {"tag_acc": nlp.evaluate(examples_of(nlp))["tag_acc"]}
    assert scored.speed > 0
    tags = [[token.tag_ for token in doc] for doc in nlp.pipe(example.text for example in examples_of(nlp))]
    assert [[token.tag_ for token in doc] for doc in scored.docs] == tags
    assert all(map(any, tags))


@pytest.mark.parametrize("name", ["ents_f", "speed"])
def test_a_score_that_the_documents_do_not_give_is_named_with_those_they_give(nlp, examples_of, name):
    with pytest.raises(ValueError, match=rf"no score '{name}'.*tag_acc.*--scores"):
        score_pipeline(nlp, examples_of(nlp), ["tag_acc", name])
