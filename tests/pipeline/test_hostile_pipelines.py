"""Saved pipelines that claim what they do not hold: refused by name, at once, before anything of that size is made."""

import json
import math
import random
from collections.abc import Callable
from contextlib import suppress
from hashlib import sha256
from typing import Any

import pytest
import srsly
import torch
from safetensors.torch import load, save
from thinc.api import Model
from torch import Tensor

from spacy_electra.model.files.weights import CHECKSUM, LENGTH, unpack_weights
from spacy_electra.model.network.encoder import LARGEST
from tests.model.test_hostile_folders import mutated

Description = dict[str, Any]
Weights = dict[str, Tensor]
Refused = Callable[..., str]

BEGINNING = "the weights of the transformer component cannot be read: "


@pytest.fixture(scope="module")
def model(make_nlp) -> Model:
    return make_nlp().get_pipe("transformer").model


@pytest.fixture(scope="module")
def saved(model) -> bytes:
    return model.to_bytes()


@pytest.fixture
def refused(model, saved) -> Refused:
    """Load a changed pipeline, its checksum right; the message of the one ValueError."""

    def load_changed(
        describe: Callable[[Description], Any] = lambda description: None,
        weigh: Callable[[Weights], Any] = lambda weights: None,
    ) -> str:
        message = srsly.msgpack_loads(saved)
        message["shims"][0][0] = changed(message["shims"][0][0], describe, weigh)
        return complaint(model, srsly.msgpack_dumps(message))

    return load_changed


def changed(shim: bytes, describe: Callable[[Description], Any], weigh: Callable[[Weights], Any]) -> bytes:
    content = shim[CHECKSUM:]
    end = LENGTH + int.from_bytes(content[:LENGTH], "little")
    description, weights = json.loads(content[LENGTH:end]), load(content[end:])
    replaced = describe(description)
    weigh(weights)
    text = replaced if isinstance(replaced, bytes) else json.dumps(description).encode("utf8")
    content = len(text).to_bytes(LENGTH, "little") + text + save(weights)
    return sha256(content).digest() + content


def complaint(model: Model, data: bytes) -> str:
    before = model.to_bytes()
    with pytest.raises(ValueError, match=BEGINNING) as raised:
        model.from_bytes(data)
    assert model.to_bytes() == before
    return str(raised.value).removeprefix(BEGINNING)


@pytest.mark.parametrize("key", ["layers", "heads", "positions"])
@pytest.mark.parametrize(
    "value", [-1, 0, 2.0, True, "x", None, [2], {}, LARGEST + 1, 10**12, 10**400, float("nan"), float("inf")], ids=repr
)
def test_a_number_of_the_shape_that_is_no_size_is_refused(refused, key, value):
    message = refused(lambda description: description["shape"].update({key: value}))
    if value == 10**400 or (isinstance(value, float) and not math.isfinite(value)):
        assert "is no JSON" in message  # as its parser says
    else:
        assert f"{key} must be a whole number from 1 to 16,777,216, but got " in message
    assert len(message) < 500


@pytest.mark.parametrize(
    ("key", "value"),
    [("layers", 10**7), ("layers", 1), ("vocab", LARGEST), ("positions", 41), ("feed_forward", LARGEST), ("types", 3)],
)
def test_a_shape_that_its_weights_do_not_fill_is_refused_before_it_is_made(refused, key, value):
    message = refused(lambda description: description["shape"].update({key: value}))
    assert "their shape asks for " in message
    assert " were saved with it" in message


def test_other_numbers_with_the_same_sum_are_refused(refused):
    """40 positions and 2 types are as many numbers as 39 and 3."""
    message = refused(lambda description: description["shape"].update(positions=39, types=3))
    assert message.startswith(
        ("the weight 'embeddings.position.weight' is", "the weight 'embeddings.token_type.weight'")
    )
    assert ", but its shape asks for (" in message


@pytest.mark.parametrize(
    "describe",
    [
        lambda description: description.update(shape=5),
        lambda description: description.pop("shape"),
        lambda description: description["shape"].pop("heads"),
        lambda description: description["shape"].update(deeper=3),
        lambda description: description.update(tokenizer=None),
    ],
)
def test_a_description_of_another_form_is_refused(refused, describe):
    assert "their description lacks a tokenizer, or a shape of the numbers layers, width" in refused(describe)


@pytest.mark.parametrize("text", [b"", b"\xff", b"[" * 100_000, b"[1", b'{"shape": NaN'], ids=lambda text: text[:4])
def test_a_description_that_is_no_json_is_refused(refused, text):
    assert "the description of the saved weights is no JSON" in refused(lambda description: text)


@pytest.mark.parametrize("text", [b"[]", b"5", b"null"])
def test_a_description_that_is_no_object_is_refused(refused, text):
    assert "the description of the saved weights is a " in refused(lambda description: text)


@pytest.mark.parametrize(
    ("weigh", "told"),
    [
        (lambda weights: weights.pop("embeddings.norm.bias"), "their shape asks for "),
        (lambda weights: weights.update(more=torch.zeros(0)), "the weight 'more' belongs to no encoder"),
        (
            lambda weights: weights.update({"embeddings.norm.bias": torch.zeros(16, dtype=torch.int64)}),
            "the weight 'embeddings.norm.bias' is of the type torch.int64",
        ),
        (
            lambda weights: weights.update({"embeddings.norm.bias": torch.zeros(2, 8)}),
            "the weight 'embeddings.norm.bias' is (2, 8), but its shape asks for (16,)",
        ),
        (
            lambda weights: weights.update({"body.project.weight.scale": torch.zeros(10**6)}),
            "the weight 'body.project.weight' is torch.float32 (32, 16) with (1000000,) scales",
        ),
        (
            lambda weights: weights.update(
                {
                    "body.project.weight": torch.zeros(10**6, 1, dtype=torch.int8),
                    "body.project.weight.scale": torch.zeros(1, 1, 10**6),
                }
            ),
            "the weight 'body.project.weight' is torch.int8 (1000000, 1) with (1, 1, 1000000) scales",
        ),
    ],
)
def test_weights_of_another_name_type_or_shape_are_refused(refused, weigh, told):
    assert told in refused(weigh=weigh)


@pytest.mark.parametrize(
    "header",
    [
        b"{}" + b" " * 6,
        b'{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,8]}}',
        b'{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}',
        b'{"a":{"dtype":"F32","shape":[1000000000000],"data_offsets":[0,4000000000000]}}',
        b'{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,-4]}}',
        b'{"a":{"dtype":"F4","shape":[4],"data_offsets":[0,2]}}',
        b'{"a":{"dtype":5,"shape":[4],"data_offsets":[0,2]}}',
        b"[" * 100_000,
    ],
    ids=range(8),
)
def test_a_header_of_weights_that_lie_nowhere_is_refused(model, saved, header):
    message = srsly.msgpack_loads(saved)
    content = message["shims"][0][0][CHECKSUM:]
    end = LENGTH + int.from_bytes(content[:LENGTH], "little")
    content = content[:end] + len(header).to_bytes(LENGTH, "little") + header
    message["shims"][0][0] = sha256(content).digest() + content
    told = complaint(model, srsly.msgpack_dumps(message))
    assert "the saved weights are no safetensors file" in told or "their shape asks for" in told


def test_a_tokenizer_of_more_pieces_than_there_are_vectors_is_refused(refused):
    def describe(description: Description) -> None:
        tokenizer = json.loads(description["tokenizer"])
        tokenizer["model"]["vocab"]["one more"] = len(tokenizer["model"]["vocab"])
        description["tokenizer"] = json.dumps(tokenizer)

    assert "but there are vectors for " in refused(describe)


@pytest.mark.parametrize(
    "change",
    [
        lambda message: message.update(shims=5),
        lambda message: message.update(shims=[]),
        lambda message: message.update(shims=[[], []]),
        lambda message: message.update(shims=[["text"]]),
        lambda message: message.pop("shims"),
    ],
)
def test_a_message_of_another_form_is_refused(model, saved, change):
    message = srsly.msgpack_loads(saved)
    change(message)
    assert "shim" in complaint(model, srsly.msgpack_dumps(message))


@pytest.mark.parametrize(
    "data",
    [b"", b"\xc1", b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\x91" * 10**5, b"\x05"],
    ids=lambda data: data[:2].hex(),
)
def test_what_is_no_message_is_refused(model, data):
    assert "they are no message of a model with one shim" in complaint(model, data)


def test_names_and_settings_in_the_message_change_nothing(model, saved):
    message = srsly.msgpack_loads(saved)
    message["nodes"][0].update(name="x" * 100, dims={"nO": -5}, refs={"a": 10**9})
    message["attrs"] = [{"settings": srsly.msgpack_dumps(5), "forward": srsly.msgpack_dumps(None)}]
    model.from_bytes(srsly.msgpack_dumps(message))
    assert (model.get_dim("nO"), model.name) == (32, "electra_transformer")
    assert model.attrs["settings"].dropout == 0.0


def test_what_is_changed_here_has_the_right_checksum(saved):
    shim = srsly.msgpack_loads(saved)["shims"][0][0]
    again = unpack_weights(changed(shim, lambda description: None, lambda weights: None))
    assert again.description == unpack_weights(shim).description


@pytest.mark.parametrize("count", [60, pytest.param(3000, marks=pytest.mark.slow)])
def test_one_value_in_place_of_another_loads_or_is_refused(model, saved, count):
    """In the description, or in its tokenizer."""
    chance, loaded = random.Random(1), 0

    def describe(description: Description) -> bytes | None:
        if chance.random() < 0.5:
            return json.dumps(mutated(description, chance)).encode("utf8")
        description["tokenizer"] = json.dumps(mutated(json.loads(description["tokenizer"]), chance))
        return None

    for _ in range(count):
        message = srsly.msgpack_loads(saved)
        message["shims"][0][0] = changed(message["shims"][0][0], describe, lambda weights: None)
        with suppress(ValueError):
            model.from_bytes(srsly.msgpack_dumps(message))
            loaded += 1
    assert 0 < loaded < count
