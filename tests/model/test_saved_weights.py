"""Weights in a message and back: all of them, on their own, and none that were damaged."""

import pickle

import pytest
import torch

from spacy_electra.model.files.weights import CHECKSUM, SavedWeights, pack_weights, unpack_weights


def saved():
    torch.manual_seed(0)
    weights = {
        "a.weight": torch.randn(6, 32),
        "steps": torch.tensor([3, 1 << 40]),
        "is_known": torch.tensor([True, False]),
        "none": torch.zeros(0, 4),
        "scalar": torch.tensor(2.5, dtype=torch.float64),
    }
    return SavedWeights(description={"shape": {"width": 32}, "text": "naïve ☃"}, weights=weights)


def test_what_is_packed_comes_back():
    before, after = saved(), unpack_weights(pack_weights(saved()))
    assert after.description == before.description
    assert after.weights.keys() == before.weights.keys()
    for name, weight in before.weights.items():
        torch.testing.assert_close(after.weights[name], weight, rtol=0, atol=0)


def test_another_default_device_changes_nothing():
    message = pack_weights(saved())
    with torch.device("meta"):
        weights = unpack_weights(message).weights
    assert {weight.device.type for weight in weights.values()} == {"cpu"}


def test_a_module_without_weights_comes_back_without():
    assert unpack_weights(pack_weights(SavedWeights(description={}, weights=None))) == SavedWeights(
        description={}, weights=None
    )


def test_half_precision_comes_back_in_float32():
    weight = torch.randn(4, 4).half()
    back = unpack_weights(pack_weights(SavedWeights(description={}, weights={"w": weight}))).weights["w"]
    assert back.dtype == torch.float32
    assert torch.equal(back, weight.float())


def test_the_same_weights_are_the_same_bytes():
    assert pack_weights(saved()) == pack_weights(unpack_weights(pack_weights(saved())))


@pytest.mark.parametrize("place", [0, CHECKSUM - 1, CHECKSUM, CHECKSUM + 12, -1])
def test_one_wrong_bit_is_found_wherever_it_is(place):
    data = bytearray(pack_weights(saved()))
    data[place] ^= 1
    with pytest.raises(ValueError, match="differ from their checksum"):
        unpack_weights(bytes(data))


@pytest.mark.parametrize("kept", [0, 10, CHECKSUM, CHECKSUM + 4, -1])
def test_a_message_that_is_cut_off_is_found(kept):
    with pytest.raises(ValueError, match="differ from their checksum"):
        unpack_weights(pack_weights(saved())[:kept])


def test_weights_that_change_leave_the_message_alone():
    data = pack_weights(saved())
    before = bytes(bytearray(data))
    for weight in unpack_weights(data).weights.values():
        weight.zero_()
    assert data == before


def test_a_weight_takes_no_other_along():
    """A pickle of one is as small as it would be without the others."""
    weights = unpack_weights(pack_weights(saved())).weights
    assert len(pickle.dumps(weights["steps"])) == len(pickle.dumps(torch.tensor([3, 1 << 40])))


def test_weights_lie_where_torch_would_put_them():
    weights = {f"w{n}": torch.randn(4, 64) for n in range(3)}
    back = unpack_weights(pack_weights(SavedWeights(description={}, weights=weights))).weights
    assert {weight.data_ptr() % 64 for weight in back.values()} == {0}
