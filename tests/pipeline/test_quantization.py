"""Parts of an encoder that multiply no bytes in int8, and which of them are tried first."""

import pickle
from functools import partial

import numpy as np
import pytest
import spacy
import torch
from confection import ConfigValidationError

from spacy_electra.model.encoder import Encoder, EncoderShape
from spacy_electra.model.fused import with_bytes
from spacy_electra.model.int8 import Int8Linear, multiplies_int8, parts_of
from spacy_electra.model.native import BYTES, NativeEncoder, predicts_natively
from spacy_electra.pipeline.encoder import EncoderShim
from spacy_electra.pipeline.quantization import (
    Part,
    Weighed,
    encoder_in,
    encoder_sections,
    evaluate,
    is_within,
    load_with,
    mixtures,
    scored_names,
    weigh_parts,
)
from spacy_electra.pipeline.transformer import encoder_of

CPU = torch.device("cpu")
SHAPE = EncoderShape(layers=2, width=64, feed_forward=128, heads=2, embedding=16, vocab=160, positions=40)
NAMES = ["layer.0.attention", "layer.0.feed_forward", "layer.1.attention", "layer.1.feed_forward"]
TEXTS = ["The cat reads words.", "Unbelievably, apples sat on the encoder!", "mat " * 30]
SECTION = "components.transformer.model"
needs_units = pytest.mark.skipif(not multiplies_int8(CPU), reason="this processor has no byte products")
needs_kernels = pytest.mark.skipif(
    not predicts_natively(CPU, SHAPE, in_bytes=True), reason="no AVX512-VNNI or no compiled kernels"
)


@pytest.fixture
def make_wide(make_nlp, wide_dir):
    return partial(make_nlp, name=str(wide_dir))


@pytest.fixture
def wide_path(make_wide, tmp_path):
    make_wide().to_disk(tmp_path / "wide")
    return tmp_path / "wide"


def vectors(nlp):
    return np.asarray(nlp.get_pipe("transformer").predict([nlp.make_doc(text) for text in TEXTS]).vectors)


def test_a_model_has_two_parts_a_block():
    assert parts_of(2) == NAMES


@needs_kernels
@pytest.mark.parametrize("name", NAMES)
def test_the_kernels_multiply_no_bytes_in_an_excluded_part(name):
    torch.manual_seed(0)
    layers = NativeEncoder(Encoder(SHAPE), in_bytes=True, excluded=[name])._encoder.layers
    kinds = {
        f"layer.{number}.{part}": {linear.kind for linear in linears}
        for number in range(2)
        for part, linears in (
            ("attention", [layers[number].output]),
            ("feed_forward", [layers[number].up, layers[number].down]),
        )
    }
    assert [part for part, found in kinds.items() if BYTES not in found] == [name]
    assert (layers[1].qkv.kind == BYTES) == (name != "layer.1.attention")


@needs_kernels
@pytest.mark.skipif(not predicts_natively(CPU, SHAPE, in_bytes=False), reason="16 bits are left to AMX")
def test_with_every_part_excluded_int8_is_auto_bit_for_bit(make_wide):
    plain, bytes_ = vectors(make_wide(precision="bf16")), vectors(make_wide(precision="int8"))
    assert (plain != bytes_).any()
    np.testing.assert_array_equal(vectors(make_wide(precision="int8", int8_excluded=NAMES)), plain)


@needs_units
@pytest.mark.parametrize("name", NAMES)
def test_torch_multiplies_no_bytes_in_an_excluded_part(name):
    torch.manual_seed(0)
    encoder = with_bytes(Encoder(SHAPE), fastest=torch.float32, excluded=[name])
    for number, block in enumerate(encoder.body.blocks):
        attention, feed_forward = block.attention, block.feed_forward
        for part, linears in (
            ("attention", [attention.output]),
            ("feed_forward", [feed_forward.up, feed_forward.down]),
        ):
            is_excluded = f"layer.{number}.{part}" == name
            assert all(isinstance(linear, Int8Linear) != is_excluded for linear in linears)
    assert isinstance(encoder.body.blocks[1].attention.qkv, Int8Linear) == (name != "layer.1.attention")


@needs_units
def test_torch_comes_closer_with_every_excluded_part(make_nlp):
    full = vectors(make_nlp(precision="fp32"))
    errors = [np.abs(vectors(make_nlp(precision="int8", int8_excluded=some)) - full).mean() for some in ([], NAMES)]
    assert errors[1] < 0.7 * errors[0]


def test_an_unknown_part_is_refused_with_the_nearest_name(make_nlp):
    with pytest.raises(ConfigValidationError, match=r"'layer\.1\.atention'.*did you mean 'layer\.1\.attention'"):
        make_nlp(precision="int8", int8_excluded=["layer.1.atention"])


def test_a_part_that_the_saved_model_lacks_is_refused_when_it_is_loaded(make_nlp, tmp_path):
    make_nlp().to_disk(tmp_path)
    with pytest.raises(ValueError, match=r"int8_excluded names 'layer\.7\.attention'.* 2 layers"):
        spacy.load(tmp_path, config={f"{SECTION}.int8_excluded": ["layer.7.attention"]})


def test_what_is_excluded_survives_disk_and_pickle(make_nlp, tmp_path):
    make_nlp(precision="int8", int8_excluded=NAMES[1:3]).to_disk(tmp_path)
    shim = encoder_of(spacy.load(tmp_path).get_pipe("transformer").model)
    assert list(shim.int8_excluded) == NAMES[1:3]
    assert pickle.loads(pickle.dumps(shim)).int8_excluded == shim.int8_excluded


def test_a_private_encoder_excludes_what_the_shared_one_did(make_nlp):
    nlp = make_nlp(precision="int8", int8_excluded=NAMES[:1])
    nlp.replace_listeners("transformer", "tagger", ["model.tok2vec"])
    sections = encoder_sections(nlp.config)
    assert sections == [SECTION, "components.tagger.model.tok2vec"]
    assert [encoder_in(nlp, section).shims[0].int8_excluded for section in sections] == [tuple(NAMES[:1])] * 2


@needs_units
def test_every_part_is_weighed_by_what_it_alone_does(wide_path):
    nlp = spacy.load(wide_path)
    docs = [nlp.make_doc(text) for text in TEXTS]
    weighed = list(weigh_parts(wide_path, [SECTION], docs))
    assert [one.part for one in weighed] == [Part(SECTION, name) for name in NAMES]
    assert [one.products for one in weighed] == [4 * 64 * 64, 2 * 64 * 128] * 2
    plain = np.asarray(encoder_in(load_with(wide_path, [SECTION], "auto"), SECTION).predict(docs).vectors)
    alone = load_with(wide_path, [SECTION], "int8", [Part(SECTION, name) for name in NAMES[:3]])
    moved = np.asarray(encoder_in(alone, SECTION).predict(docs).vectors)
    expected = 1 - np.mean(
        [np.dot(a, b) / np.linalg.norm(a) / np.linalg.norm(b) for a, b in zip(plain, moved, strict=True)]
    )
    assert weighed[3].error == pytest.approx(expected, rel=0.05)
    assert all(one.error > 0 for one in weighed)


def test_parts_are_excluded_by_what_they_lose_for_their_products():
    parts = [Part("s", name) for name in NAMES[:3]]
    weighed = [Weighed(*facts) for facts in zip(parts, (3e-6, 8e-6, 2e-6), (1, 2, 1), strict=True)]
    first, second, third = parts[1], parts[0], parts[2]  # 4e-6, 3e-6 and 2e-6 a product
    assert list(mixtures(weighed)) == [
        ((), 1.0),
        ((first,), 0.5),
        ((first, second), 0.25),
        ((first, second, third), 0.0),
    ]


@pytest.mark.parametrize(("moved", "answer"), [(0.001, True), (-0.001, True), (0.0011, False), (-0.0011, False)])
def test_a_tolerance_holds_in_both_directions(moved, answer):
    assert is_within({"a": 0.5 + moved, "b": 0.7}, {"a": 0.5, "b": 0.7}, points=0.1) is answer


def test_the_scores_to_keep_are_those_that_training_weighs():
    config = {"training": {"score_weights": {"tag_acc": 0.5, "ents_p": 0.0, "ents_per_type": None, "ents_f": 0.5}}}
    assert scored_names(config) == ["tag_acc", "ents_f"]


def test_a_score_that_the_documents_do_not_give_is_named_with_those_they_give(nlp, examples_of):
    with pytest.raises(ValueError, match=r"no score 'ents_f'.*tag_acc.*--scores"):
        evaluate(nlp, examples_of(nlp), ["tag_acc", "ents_f"])


def test_the_encoder_of_a_section_is_found(nlp):
    assert isinstance(encoder_in(nlp, SECTION).shims[0], EncoderShim)
