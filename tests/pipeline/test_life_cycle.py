"""What spaCy does with a pipeline, and that its vectors and tags stay: values differ before and agree after."""

import pickle
import shutil
from functools import partial

import numpy as np
import pytest
import spacy
import srsly
from spacy.tokens import Doc
from thinc.api import Model, reduce_mean

from spacy_electra.model.optim.adamw import adamw_v1
from spacy_electra.pipeline.architectures import build_tok2vec_electra
from spacy_electra.pipeline.paths import forget_paths
from spacy_electra.pipeline.private import replace_listener_cfg
from spacy_electra.pipeline.transformer import settings_of, shim_of_transformer

TEXTS = ["The cat reads words.", "Unbelievably, apples sat on the encoder!"]


@pytest.fixture(
    params=["fp32", "bf16", "fp16", "int8", "bf16 in kernels", "int8 in kernels", "int8 in kernels, in part"]
)
def make_same(request, make_nlp, wide_dir):
    """Builds pipelines of one precision, which run in kernels of our own where these exist and the width fits."""
    precision, _, kernels = request.param.partition(" ")
    excluded = ["layer.0.feed_forward", "layer.1.attention"] if kernels.endswith("in part") else None
    in_kernels = {"name": str(wide_dir), "int8_excluded": excluded} if kernels else {}
    return partial(make_nlp, precision=precision, **in_kernels)


@pytest.fixture
def trained(make_same, examples_of):
    """A pipeline whose encoder and tagger have left their starting weights."""
    nlp = make_same()
    optimizer = adamw_v1(5e-3)
    for _ in range(8):
        nlp.update(examples_of(nlp), sgd=optimizer)
    return nlp


@pytest.fixture
def untrained(make_same):
    """Another pipeline of the same settings."""
    return make_same()


def answers(nlp, texts=TEXTS):
    """Tags, and the tagger's scores as one array."""
    docs = list(nlp.pipe(texts))
    scores = nlp.get_pipe("tagger").model.predict(docs)
    return [[t.tag_ for t in doc] for doc in docs], np.concatenate(scores)


def vectors(nlp):
    return nlp.get_pipe("transformer").predict([nlp.make_doc(text) for text in TEXTS]).vectors


def assert_differ(a, b):
    assert not np.allclose(answers(a)[1], answers(b)[1], atol=1e-3)


def assert_agree(a, b):
    tags, scores = answers(a)
    other_tags, other_scores = answers(b)
    assert tags == other_tags
    np.testing.assert_array_equal(scores, other_scores)


def test_to_disk_and_load(trained, untrained, tmp_path):
    assert_differ(trained, untrained)
    trained.to_disk(tmp_path)
    assert_agree(trained, spacy.load(tmp_path))


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda data: data[: len(data) // 2], "incomplete input"),
        (lambda data: b"", "incomplete input"),
        (lambda data: b"hello", "extra data"),
        (lambda data: data[:-1000] + bytes([data[-1000] ^ 1]) + data[-999:], "differ from their checksum"),
    ],
    ids=["cut short", "empty", "something else", "one bit"],
)
def test_a_damaged_pipeline_names_its_component(trained, tmp_path, damage, reason):
    trained.to_disk(tmp_path)
    file = tmp_path / "transformer" / "model"
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(ValueError, match=f"transformer component cannot be read: .*{reason}.*copy it again"):
        spacy.load(tmp_path)


def test_from_disk_into_a_built_pipeline(trained, untrained, tmp_path):
    trained.to_disk(tmp_path)
    assert_differ(trained, untrained)
    assert_agree(trained, untrained.from_disk(tmp_path))


def test_bytes_there_and_back(trained, untrained):
    data = trained.to_bytes()
    assert_differ(trained, untrained)
    assert_agree(trained, untrained.from_bytes(data))
    assert untrained.get_pipe("transformer").to_bytes() == trained.get_pipe("transformer").to_bytes()


def test_weights_are_read_where_they_lie_in_the_message(trained, untrained, monkeypatch):
    """thinc would copy them once more."""
    data = trained.get_pipe("transformer").model.to_bytes()
    monkeypatch.setattr(Model, "from_bytes", None)
    assert_differ(trained, untrained)
    untrained.get_pipe("transformer").model.from_bytes(data)
    np.testing.assert_array_equal(*(vectors(nlp) for nlp in (trained, untrained)))


def test_a_message_in_another_order_is_read_as_thinc_reads_it(trained, untrained):
    message = srsly.msgpack_loads(trained.get_pipe("transformer").model.to_bytes())
    assert list(message)[-1] == "shims"
    data = srsly.msgpack_dumps(dict(reversed(message.items())))
    untrained.get_pipe("transformer").model.from_bytes(data)
    np.testing.assert_array_equal(*(vectors(nlp) for nlp in (trained, untrained)))


def test_a_copy_agrees_until_one_learns(trained, examples_of):
    model = trained.get_pipe("transformer").model
    copied = model.copy()
    docs = [trained.make_doc(text) for text in TEXTS]
    before = model.predict(docs).vectors
    assert (copied.predict(docs).vectors == before).all()
    trained.update(examples_of(trained), sgd=adamw_v1(1e-2))
    assert (copied.predict(docs).vectors == before).all()
    assert not (model.predict(docs).vectors == before).all()


def test_a_pipeline_can_be_pickled(trained):
    assert_agree(trained, pickle.loads(pickle.dumps(trained)))


def test_components_can_be_sourced(trained, make_nlp):
    nlp = spacy.blank("xx", vocab=trained.vocab)
    nlp.add_pipe("transformer", source=trained)
    nlp.add_pipe("tagger", source=trained)
    assert_differ(trained, make_nlp())
    assert_agree(trained, nlp)


def test_replaced_listeners_agree_after_save_and_load(trained, tmp_path, examples_of):
    tags = answers(trained)[0]
    docs = [trained.make_doc(text) for text in TEXTS]
    trained.replace_listeners("transformer", "tagger", ["model.tok2vec"])
    trained.remove_pipe("transformer")
    wanted = trained.get_pipe("tagger").model.predict(docs)
    trained.to_disk(tmp_path)
    nlp = spacy.load(tmp_path)
    config = nlp.config["components"]["tagger"]["model"]["tok2vec"]
    assert config["@architectures"] == "spacy-electra.Tok2VecElectra.v2"
    assert (config["grad_factor"], config["pooling"]) == (1.0, {"@layers": "reduce_mean.v1"})
    for a, b in zip(wanted, nlp.get_pipe("tagger").model.predict(docs), strict=True):
        np.testing.assert_array_equal(a, b)
    assert [[t.tag_ for t in doc] for doc in nlp.pipe(TEXTS)] == tags
    assert nlp("").text == ""


def test_a_private_encoder_keeps_the_settings_of_both_that_it_replaces():
    transformer = {"@architectures": "spacy-electra.ElectraTransformer.v2", "name": "somewhere", "window": 9}
    listener = {
        "@architectures": "spacy-transformers.TransformerListener.v1",
        "grad_factor": 20.0,
        "pooling": {"@layers": "reduce_max.v1"},
        "upstream": "*",
    }
    assert replace_listener_cfg(transformer, listener) == {
        "@architectures": "spacy-electra.Tok2VecElectra.v2",
        "name": "somewhere",
        "window": 9,
        "grad_factor": 20.0,
        "pooling": {"@layers": "reduce_max.v1"},
    }


def test_the_gradient_of_a_private_encoder_is_multiplied_by_its_factor(nlp, model_dir):
    def gradient(factor):
        model = build_tok2vec_electra(
            name=str(model_dir), pooling=reduce_mean(), grad_factor=factor, precision="fp32", dropout=0.0
        )
        model.initialize()
        vectors, backprop = model.begin_update([nlp.make_doc(text) for text in TEXTS])
        backprop([np.random.default_rng(0).normal(size=each.shape).astype("f") for each in vectors])
        (transformer,) = [node for node in model.walk() if node.name == "electra_transformer"]
        return shim_of_transformer(transformer).module.embeddings.word.weight.grad.numpy()

    np.testing.assert_allclose(
        gradient(16.0), 16.0 * gradient(1.0), rtol=1e-4, atol=1e-5
    )  # a power of two rounds nothing


def test_a_replaced_listener_learns_alone(trained, examples_of):
    trained.replace_listeners("transformer", "tagger", ["model.tok2vec"])
    shared = trained.get_pipe("transformer").model
    (private,) = [node for node in trained.get_pipe("tagger").model.walk() if node.name == shared.name]
    docs = [trained.make_doc(text) for text in TEXTS]
    before = shared.predict(docs).vectors
    assert (private.predict(docs).vectors == before).all()
    optimizer = adamw_v1(1e-2)
    for _ in range(6):  # in float16, first steps look for a scale at which gradients are finite
        trained.update(examples_of(trained), sgd=optimizer)
    assert (shared.predict(docs).vectors == before).all()
    assert not (private.predict(docs).vectors == before).all()


def test_a_private_encoder_rehearses(trained, examples_of):
    trained.replace_listeners("transformer", "tagger", ["model.tok2vec"])
    (private,) = [node for node in trained.get_pipe("tagger").model.walk() if node.name == "electra_transformer"]
    docs = [trained.make_doc(text) for text in TEXTS]
    trained.resume_training()
    optimizer = adamw_v1(1e-2)
    before = private.predict(docs).vectors
    for _ in range(6):  # in float16, as above
        trained.rehearse(examples_of(trained), sgd=optimizer, exclude=["transformer"])
    assert not (private.predict(docs).vectors == before).all()


def test_initialize_reads_the_weights_once(nlp, examples_of):
    shim = shim_of_transformer(nlp.get_pipe("transformer").model)
    module = shim.module
    nlp.initialize(lambda: examples_of(nlp))
    assert shim.module is module


def test_a_saved_pipeline_needs_no_other_directory(make_nlp, model_dir, tmp_path, examples_of):
    source = tmp_path / "discriminator"
    shutil.copytree(model_dir, source)
    nlp = make_nlp(name=str(source))
    forget_paths(nlp).to_disk(tmp_path / "saved")
    shutil.rmtree(source)
    loaded = spacy.load(tmp_path / "saved")
    assert_agree(nlp, loaded)
    loaded.update(examples_of(loaded), sgd=adamw_v1(1e-3))
    written = [path for path in (tmp_path / "saved").rglob("*") if path.is_file()]
    assert len(written) > 5
    assert [path for path in written if str(tmp_path).encode() in path.read_bytes()] == []


def test_interpolated_paths_are_forgotten_as_well(make_nlp, model_dir, tmp_path):
    nlp = make_nlp()
    config = nlp.config.copy()
    config["paths"] = {"discriminator": str(model_dir), "train": str(tmp_path)}
    config["components"]["transformer"]["model"]["name"] = "${paths.discriminator}"
    nlp = spacy.util.load_model_from_config(config, auto_fill=True)
    nlp.get_pipe("transformer").model.initialize()
    forget_paths(nlp)
    nlp.to_disk(tmp_path / "saved")
    text = (tmp_path / "saved" / "config.cfg").read_text()
    assert str(model_dir) not in text
    assert str(tmp_path) not in text
    loaded = spacy.load(tmp_path / "saved")
    assert settings_of(loaded.get_pipe("transformer").model).name is None


def test_names_on_the_hub_are_kept(make_nlp):
    nlp = make_nlp()
    nlp.config["components"]["transformer"]["model"]["name"] = "google/electra-small-discriminator"
    forget_paths(nlp)
    assert nlp.config["components"]["transformer"]["model"]["name"] == "google/electra-small-discriminator"


def test_settings_can_be_changed_at_load(trained, tmp_path):
    trained.to_disk(tmp_path)
    override = {"components.transformer.model.precision": "bf16", "components.transformer.model.window": 9}
    nlp = spacy.load(tmp_path, config=override)
    model = nlp.get_pipe("transformer").model
    assert (shim_of_transformer(model).precision, settings_of(model).window) == ("bf16", 9)
    assert_differ(trained, nlp)


@pytest.mark.parametrize(
    "make_same", ["fp32", "bf16", "int8", "int8 in kernels"], indirect=True
)  # float16 looks for a scale first
def test_updates_go_on_after_a_load(trained, tmp_path, examples_of):
    trained.to_disk(tmp_path)
    nlp = spacy.load(tmp_path)
    optimizers = [adamw_v1(1e-3), adamw_v1(1e-3)]
    for one, optimizer in zip((trained, nlp), optimizers, strict=True):
        one.update(examples_of(one), sgd=optimizer)
    assert_differ(spacy.load(tmp_path), nlp)
    # The trained pipeline's optimizer was another one, so both begin with no past.
    np.testing.assert_allclose(answers(trained)[1], answers(nlp)[1], atol=1e-5)


def test_documents_leave_a_memory_zone_with_the_same_tags(trained):
    wanted = answers(trained)[0]
    with trained.memory_zone():
        inside = [[t.tag_ for t in doc] for doc in trained.pipe(TEXTS)]
    assert inside == wanted
    assert answers(trained)[0] == wanted


def test_a_model_written_before_initialization_reads_back(make_nlp, tmp_path):
    empty = spacy.blank("xx")
    model = {"@architectures": "spacy-electra.ElectraTransformer.v2", "name": None}
    empty.add_pipe("transformer", config={"model": model})
    empty.to_disk(tmp_path)
    with pytest.raises(ValueError, match="no weights yet"):
        spacy.load(tmp_path)("cat")


def test_the_model_is_a_thinc_model_of_one_width(nlp):
    model = nlp.get_pipe("transformer").model
    assert isinstance(model, Model)
    assert model.get_dim("nO") == 32
    assert model.predict([Doc(nlp.vocab, words=["cat"])]).vectors.shape[1] == 32


def test_pipelines_with_older_names_of_settings_load_with_one_warning(trained, tmp_path):
    trained.to_disk(tmp_path)
    path = tmp_path / "config.cfg"
    text = path.read_text(encoding="utf8")
    for new, old in (
        ("ElectraTransformer.v2", "ElectraTransformer.v1"),
        ("max_batch_tokens = ", "max_slots = "),
        ("gradual_unfreeze_steps = ", "unfreeze_every = "),
    ):
        assert text.count(new) == 1
        text = text.replace(new, old)
    path.write_text(text, encoding="utf8")
    with pytest.warns(DeprecationWarning, match="max_slots is called max_batch_tokens") as warned:
        loaded = spacy.load(tmp_path)
    assert len([each for each in warned if "ElectraTransformer.v2" in str(each.message)]) == 1
    assert shim_of_transformer(loaded.get_pipe("transformer").model).max_batch_tokens == 4096
    np.testing.assert_array_equal(vectors(loaded), vectors(trained))
