"""An encoder as ONNX, run by onnxruntime."""

import numpy as np
import onnxruntime
import pytest
import torch

from spacy_electra.model.files.onnx import FILE, check_file, check_packages, save_onnx
from spacy_electra.model.network.attention import within_lengths
from spacy_electra.model.network.encoder import Encoder, EncoderShape

SHAPE = EncoderShape(layers=2, width=32, feed_forward=64, heads=2, embedding=16, vocab=50, positions=40)


def made(seed=0):
    torch.manual_seed(seed)
    return Encoder(SHAPE).requires_grad_(False)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return save_onnx(made(), tmp_path_factory.mktemp("onnx"))


@pytest.mark.parametrize(("lengths", "width"), [([7], 7), ([9, 4, 1, 9], 9), ([40, 2], 40)])
def test_onnxruntime_gives_the_vectors_of_torch(path, lengths, width):
    ids = torch.randint(50, (len(lengths), width), generator=torch.Generator().manual_seed(5))
    used = torch.tensor(lengths)
    seen = torch.arange(width) < used[:, None]
    session = onnxruntime.InferenceSession(path)
    (answer,) = session.run(None, {"input_ids": ids.numpy(), "attention_mask": seen.long().numpy()})
    expected = made()(ids, mask=within_lengths(used, width)).numpy()
    np.testing.assert_allclose(answer[seen.numpy()], expected[seen.numpy()], atol=1e-5)


def test_nothing_else_is_left_in_the_folder(path):
    assert [file.name for file in path.parent.iterdir()] == [FILE]


def test_a_file_of_other_weights_is_refused(path):
    with pytest.raises(
        ValueError, match=r"onnxruntime's vectors for 1 x 3 pieces differ from torch's by .*, more than"
    ):
        check_file(made(seed=1), path)


def test_missing_packages_are_named():
    with pytest.raises(ValueError, match=r"needs no_such_package, .*: pip install no_such_package$"):
        check_packages(("json", "no_such_package"))
