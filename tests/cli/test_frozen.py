"""A transformer that a generated config does not source may be frozen: its weights come from its `name`."""

from pathlib import Path

import numpy as np
import pytest
import spacy
from confection import ConfigValidationError
from spacy.tokens import Doc, DocBin
from spacy.training.initialize import init_nlp
from spacy.training.loop import train

from spacy_electra.cli.configs import pipeline_config
from spacy_electra.pipeline.transformer import shim_of_transformer

POOLING = {"@layers": "reduce_mean.v1"}


@pytest.fixture
def config(run_dir: Path, tmp_path: Path):
    words = ["The", "tensor", "is", "not", "found", "."]
    doc = Doc(spacy.blank("en").vocab, words=words, tags=["A", "B", "C", "D", "E", "F"])
    DocBin(docs=[doc] * 4).to_disk(tmp_path / "train.spacy")
    config = pipeline_config(["tagger"], size="tiny", lang="en", gpu=False, frozen=False)
    config["paths"].update(
        train=str(tmp_path / "train.spacy"),
        dev=str(tmp_path / "train.spacy"),
        discriminator=str(run_dir / "model-last" / "discriminator"),
    )
    config["training"].update(max_steps=2, eval_frequency=1, frozen_components=["transformer"])
    return config


def trained(config, folder: Path):
    folder.mkdir()
    nlp = init_nlp(config)
    before = shim_of_transformer(nlp.get_pipe("transformer").model).to_bytes()
    train(nlp, folder)
    nlp = spacy.load(folder / "model-last")
    assert shim_of_transformer(nlp.get_pipe("transformer").model).to_bytes() == before
    return nlp


def test_a_frozen_transformer_that_annotates_has_its_weights_and_keeps_them(config, tmp_path: Path):
    config["training"]["annotating_components"] = ["transformer"]
    nlp = trained(config, tmp_path / "trained")
    doc = nlp("The tensor is not found.")
    assert doc[0].tag_
    assert np.isfinite(doc.vector).all()
    assert doc.vector.any()


def test_a_frozen_transformer_that_does_not_annotate_is_one_clear_error(config):
    with pytest.raises(ConfigValidationError, match="not in annotating_components, so that tagger would"):
        init_nlp(config)


@pytest.mark.parametrize("annotating", [[], ["transformer"]])
def test_a_component_with_an_encoder_of_its_own_learns_beside_a_frozen_transformer(config, tmp_path, annotating):
    config["components"]["tagger"]["model"]["tok2vec"] = {
        "@architectures": "spacy-electra.Tok2VecElectra.v2",
        "name": "${paths.discriminator}",
        "pooling": POOLING,
    }
    config["training"]["annotating_components"] = annotating
    nlp = trained(config, tmp_path / "trained")
    assert nlp("The tensor.")[0].tag_
    assert nlp("The tensor.").has_vector


def test_a_frozen_transformer_without_a_name_says_so(config):
    config["training"]["annotating_components"] = ["transformer"]
    config["paths"]["discriminator"] = None
    with pytest.raises(ConfigValidationError, match="name = null"):
        init_nlp(config)
