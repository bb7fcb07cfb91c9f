"""Parts of an encoder that multiply no bytes in int8, and which of them are tried first."""

import pickle
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import spacy
import torch
from confection import ConfigValidationError

from spacy_electra.model import library
from spacy_electra.model.encoder import Encoder, EncoderShape
from spacy_electra.model.fused import PackedLinear, fuses_products, with_bytes
from spacy_electra.model.int8 import Int8Linear, multiplies_int8, parts_of
from spacy_electra.model.native import BYTES, SHORTS, NativeEncoder, predicts_natively
from spacy_electra.pipeline import quantization
from spacy_electra.pipeline.quantization import (
    Mixture,
    Part,
    Weighed,
    all_products,
    encoder_in,
    encoder_sections,
    evaluate,
    exclusions,
    in_bytes_but,
    is_within,
    overrides_for,
    parts_in,
    predict_in,
    products_of,
    scored_names,
    shim_in,
    weigh_parts,
)
from spacy_electra.pipeline.transformer import encoder_of

CPU = torch.device("cpu")
SHAPE = EncoderShape(layers=2, width=64, feed_forward=128, heads=2, embedding=16, vocab=160, positions=40)
NAMES = ["layer.0.attention", "layer.0.feed_forward", "layer.1.attention", "layer.1.feed_forward"]
TEXTS = ["The cat reads words.", "Unbelievably, apples sat on the encoder!", "mat " * 30]
SECTION, PRIVATE = "components.transformer.model", "components.tagger.model.tok2vec"
needs_units = pytest.mark.skipif(not multiplies_int8(CPU), reason="this processor has no byte products")
needs_kernels = pytest.mark.skipif(
    not predicts_natively(CPU, SHAPE, in_bytes=True), reason="no AVX512-VNNI or no compiled kernels"
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


@pytest.mark.skipif(not fuses_products(CPU, torch.bfloat16), reason="no products in bfloat16")
@needs_units
def test_torch_multiplies_in_bfloat16_what_is_excluded():
    block = with_bytes(Encoder(SHAPE), fastest=torch.bfloat16, excluded=NAMES[3:]).body.blocks[1]
    assert isinstance(block.feed_forward.up, PackedLinear)
    assert isinstance(block.feed_forward.down, PackedLinear)
    assert isinstance(block.attention.output, Int8Linear)


@needs_units
def test_what_projects_embeddings_is_never_of_bytes():
    assert not isinstance(with_bytes(Encoder(SHAPE), fastest=torch.float32).body.project, Int8Linear)
    if predicts_natively(CPU, SHAPE, in_bytes=True):
        assert NativeEncoder(Encoder(SHAPE), in_bytes=True)._encoder.project.kind == SHORTS


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
    with pytest.raises(ValueError, match=r"^int8_excluded names 'layer\.7\.attention'.* 2 layers"):
        spacy.load(tmp_path, config={f"{SECTION}.int8_excluded": ["layer.7.attention"]})


def test_what_is_excluded_survives_disk_and_pickle(make_nlp, tmp_path):
    make_nlp(precision="int8", int8_excluded=NAMES[1:3]).to_disk(tmp_path)
    shim = encoder_of(spacy.load(tmp_path).get_pipe("transformer").model)
    assert list(shim.int8_excluded) == NAMES[1:3]
    assert pickle.loads(pickle.dumps(shim)).int8_excluded == shim.int8_excluded


def test_a_private_encoder_excludes_what_the_shared_one_did(private_nlp):
    assert encoder_sections(private_nlp) == [SECTION, PRIVATE]
    assert [shim_in(private_nlp, section).int8_excluded for section in (SECTION, PRIVATE)] == [tuple(NAMES[:1])] * 2


def test_disabled_components_have_no_encoders_to_quantize(private_nlp):
    private_nlp.disable_pipe("tagger")
    assert encoder_sections(private_nlp) == [SECTION]


def test_every_encoder_gets_its_own_parts(private_nlp, tmp_path):
    mixture = Mixture("int8", (Part(SECTION, NAMES[1]), Part(PRIVATE, NAMES[2])), 0.5)
    predict_in(private_nlp, [SECTION, PRIVATE], mixture)
    private_nlp.to_disk(tmp_path)
    loaded = spacy.load(tmp_path, config=overrides_for([SECTION, PRIVATE], mixture))
    for nlp in (private_nlp, loaded):
        excluded = [shim_in(nlp, section).int8_excluded for section in (SECTION, PRIVATE)]
        assert excluded == [(NAMES[1],), (NAMES[2],)]


def test_a_precision_that_is_set_counts_from_the_next_prediction_on(make_nlp):
    nlp = make_nlp(precision="fp32", cache_mb=1.0)
    before = vectors(nlp)
    shim_in(nlp, SECTION).set_precision("bf16")
    assert (vectors(nlp) != before).any()
    shim_in(nlp, SECTION).set_precision("fp32")
    np.testing.assert_array_equal(vectors(nlp), before)
    with pytest.raises(ValueError, match="precision must be one of"):
        shim_in(nlp, SECTION).set_precision("int4")


@needs_units
@pytest.mark.parametrize("has_kernels", [True, False])
def test_every_part_is_weighed_by_what_it_alone_does(make_wide, monkeypatch, has_kernels):
    if not has_kernels:  # torch's own type beside bytes is further from float32 than a part in bytes
        monkeypatch.setattr(library, "_loaded", lambda name: None)
    nlp = make_wide()
    docs = [nlp.make_doc(text) for text in TEXTS]
    weighed = list(weigh_parts(nlp, [SECTION], docs))
    assert [one.part for one in weighed] == parts_in(nlp, [SECTION]) == [Part(SECTION, name) for name in NAMES]

    def predicted(excluded):
        predict_in(nlp, [SECTION], Mixture("int8", tuple(Part(SECTION, name) for name in excluded), 0.0))
        return vectors(nlp)

    plain = predicted(NAMES)
    for number, one in enumerate(weighed):
        moved = predicted(NAMES[:number] + NAMES[number + 1 :])
        rows = zip(plain.astype(np.float64), moved.astype(np.float64), strict=True)
        cosines = [np.dot(a, b) / np.linalg.norm(a) / np.linalg.norm(b) for a, b in rows]
        assert one.error == pytest.approx(1 - np.mean(cosines), rel=1e-6)
        assert one.error > 0


def test_parts_are_weighed_on_the_first_words_alone(make_nlp, monkeypatch):
    nlp = make_nlp()
    docs = [nlp.make_doc(text) for text in TEXTS]
    seen = []
    predict = encoder_in(nlp, SECTION).predict
    monkeypatch.setattr(encoder_in(nlp, SECTION), "predict", lambda some: seen.append(len(some)) or predict(some))
    monkeypatch.setattr(quantization, "SAMPLE", len(docs[0]) + 1)
    list(weigh_parts(nlp, [SECTION], docs))
    assert set(seen) == {2}


def test_products_are_those_that_can_be_of_bytes():
    assert [products_of(SHAPE, name) for name in NAMES] == [64 * 64, 2 * 64 * 128, 4 * 64 * 64, 2 * 64 * 128]
    assert all_products(SHAPE) == 16 * 64 + 2 * (4 * 64 * 64 + 2 * 64 * 128)
    assert all_products(replace(SHAPE, embedding=64)) == 2 * (4 * 64 * 64 + 2 * 64 * 128)


def test_parts_are_excluded_by_what_they_lose_for_their_products():
    parts = [Part("s", name) for name in NAMES[:3]]
    weighed = [Weighed(*facts) for facts in zip(parts, (2e-6, 5e-6, 3e-6), (1, 2, 1), strict=True)]
    first, second = parts[2], parts[1]  # 3e-6 and 2.5e-6 a product, the other one 2e-6
    assert list(exclusions(weighed)) == [[first], [first, second]]


def test_the_share_of_a_mixture_is_that_of_the_products_in_bytes(make_wide):
    nlp = make_wide()
    everything, some = in_bytes_but(nlp, [SECTION]), in_bytes_but(nlp, [SECTION], [Part(SECTION, NAMES[1])])
    assert everything == Mixture("int8", (), (64 * 64 + 4 * 64 * 64 + 4 * 64 * 128) / all_products(SHAPE))
    assert some.excluded == (Part(SECTION, NAMES[1]),)
    assert everything.share - some.share == pytest.approx(2 * 64 * 128 / all_products(SHAPE))


@pytest.mark.parametrize(("moved", "answer"), [(0.001, True), (-0.001, True), (0.0011, False), (-0.0011, False)])
def test_a_tolerance_holds_in_both_directions(moved, answer):
    assert is_within({"a": 0.5 + moved, "b": 0.7}, {"a": 0.5, "b": 0.7}, points=0.1) is answer


def test_the_scores_to_keep_are_those_that_training_weighs():
    weights = {"tag_acc": 0.5, "ents_p": 0.0, "ents_per_type": None, "ents_f": 0.5, "speed": 0.1}
    assert scored_names({"training": {"score_weights": weights}}) == ["tag_acc", "ents_f"]
    assert scored_names({}) == []


def test_scores_are_those_of_spacy_on_all_documents(nlp, examples_of):
    scored = evaluate(nlp, examples_of(nlp), ["tag_acc"])
    assert scored.scores == {"tag_acc": nlp.evaluate(examples_of(nlp))["tag_acc"]}
    assert scored.speed > 0
    tags = [[token.tag_ for token in doc] for doc in nlp.pipe(example.text for example in examples_of(nlp))]
    assert [[token.tag_ for token in doc] for doc in scored.docs] == tags
    assert all(map(any, tags))


@pytest.mark.parametrize("name", ["ents_f", "speed"])
def test_a_score_that_the_documents_do_not_give_is_named_with_those_they_give(nlp, examples_of, name):
    with pytest.raises(ValueError, match=rf"no score '{name}'.*tag_acc.*--scores"):
        evaluate(nlp, examples_of(nlp), ["tag_acc", name])
