"""`average`: weights half-way between models, with the heads that there are, as Hugging Face reads them."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import ElectraForMaskedLM, ElectraForPreTraining

Invoke = Callable[..., Any]
WORDS = "electra.embeddings.word_embeddings.weight"
FIRST_LAYER = "electra.encoder.layer.0.attention.self.query.weight"


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def whole(kind: Any, folder: Path) -> None:
    _, told = kind.from_pretrained(folder, output_loading_info=True)
    assert not any(told.values()), told


@pytest.fixture
def one(run_dir: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run_dir / "model-last", tmp_path / "one"))


@pytest.fixture
def other(one: Path, tmp_path: Path) -> Path:
    """The same model with every weight of both halves one larger."""
    folder = Path(shutil.copytree(one, tmp_path / "other"))
    for half in ("discriminator", "generator"):
        path = folder / half / "model.safetensors"
        save_file({name: weight + 1 for name, weight in load_file(path).items()}, path, metadata={"format": "pt"})
    return folder


@pytest.mark.parametrize(("options", "share"), [((), 0.5), (("--weights", "3,1"), 0.25), (("--weights", "1,3"), 0.75)])
def test_every_weight_is_as_far_between_the_models_as_asked(
    electra: Invoke, one: Path, other: Path, tmp_path: Path, options: tuple[str, ...], share: float
):
    out = tmp_path / "out"
    assert "Averaged 2 models" in electra("average", one, other, out, *options)
    for half, kind in (("discriminator", ElectraForPreTraining), ("generator", ElectraForMaskedLM)):
        before, after = weights(one / half), weights(out / half)
        assert before.keys() == after.keys()
        for name, weight in after.items():
            torch.testing.assert_close(weight, before[name] + share, rtol=0, atol=1e-5)
        whole(kind, out / half)


def test_a_head_that_one_model_lacks_is_the_others(electra: Invoke, one: Path, other: Path, tmp_path: Path):
    shutil.rmtree(one / "generator")
    out = tmp_path / "out"
    electra("average", one, other, out)
    theirs, mine = weights(other / "generator"), weights(out / "generator")
    bias = "generator_lm_head.bias"
    assert torch.equal(mine[bias], theirs[bias])
    words = weights(out / "discriminator")[WORDS]
    torch.testing.assert_close(words, weights(one / "discriminator")[WORDS] + 0.5)


def test_encoders_alone_give_one_plain_folder(electra: Invoke, one: Path, other: Path, tmp_path: Path):
    out = tmp_path / "out"
    for folder in (one, other):
        shutil.rmtree(folder / "generator")
    folders = (one / "discriminator", other / "discriminator", one / "discriminator")
    printed = " ".join(electra("average", *folders, out, "--weights", "1,2,1").split())
    assert printed.endswith(f"The pipeline's `name` is {out}")
    whole(ElectraForPreTraining, out)
    torch.testing.assert_close(weights(out)[FIRST_LAYER], weights(one / "discriminator")[FIRST_LAYER] + 0.5)


def test_models_that_have_no_average_are_refused(
    complaint: Invoke, electra: Invoke, one: Path, corpus_path: Path, tmp_path: Path
):
    electra("prune", one, tmp_path / "shallow", "--layers", 1)
    told = complaint("average", one, tmp_path / "shallow", tmp_path / "out")
    assert "are of different shapes (layers is" in told
    electra("prune", one, tmp_path / "few", "--vocab-size", 80, "--corpus", corpus_path)
    assert "have different vocabularies" in complaint("average", one, tmp_path / "few", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("given", ["1", "1,0", "1,-1", "1,2,3", "a,b", "1,inf", "nan,1"])
def test_other_weights_than_a_number_for_each_model_are_refused(
    complaint: Invoke, one: Path, other: Path, tmp_path: Path, given: str
):
    told = complaint("average", one, other, tmp_path / "out", "--weights", given)
    assert f"--weights must be 2 numbers above 0 separated by commas, one for each model, but is '{given}'" in told


def test_one_model_alone_has_no_average(complaint: Invoke, one: Path, tmp_path: Path):
    assert "needs two models or more" in complaint("average", one, tmp_path / "out")


def test_a_model_is_replaced_only_where_asked(electra: Invoke, complaint: Invoke, one: Path, other: Path):
    assert "holds a model already: add --overwrite" in complaint("average", one, other, other)
    electra("average", one, other, other, "--overwrite")
    name = "generator_lm_head.bias"
    torch.testing.assert_close(weights(other / "generator")[name], weights(one / "generator")[name] + 0.5)
