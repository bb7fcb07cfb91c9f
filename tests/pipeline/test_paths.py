"""What a saved pipeline forgets of the machine it was trained on: what is ours, and nothing that others read."""

from pathlib import Path
from typing import Any

import pytest
import spacy
from spacy.language import Language

from spacy_electra.pipeline.paths import forget_paths

ROOT = "/data/of/this/machine"


@Language.factory("words", default_config={"path": None, "other": None})
def make_words(nlp: Language, name: str, path: Any, other: Any):
    assert path is not None
    return lambda doc: doc


@pytest.fixture
def forgotten(make_nlp, model_dir):
    """The config after `forget_paths`, of a pipeline with other paths and another component, or training settings."""

    def build(paths, *, name=None, words=None, **sections):
        config = make_nlp().config.copy()
        config["paths"] = {**paths, "discriminator": str(model_dir)}
        config["components"]["transformer"]["model"]["name"] = name or "${paths.discriminator}"
        for section, values in sections.items():
            config.setdefault(section, {}).update(values)
        if words:
            config["components"]["words"] = {"factory": "words", **words}
            config["nlp"]["pipeline"] = [*config["nlp"]["pipeline"], "words"]
        nlp = spacy.util.load_model_from_config(config, auto_fill=True)
        forget_paths(nlp)
        once = nlp.config.to_str()
        assert forget_paths(nlp).config.to_str(interpolate=False) == once  # each checkpoint asks for it
        return nlp.config

    return build


def name_in(config):
    return config["components"]["transformer"]["model"]["name"]


def test_a_path_of_another_component_stays(forgotten):
    config = forgotten({"words": f"{ROOT}/words", "train": ROOT}, words={"path": "${paths.words}"})
    assert {key: value for key, value in config["paths"].items() if value} == {"words": f"{ROOT}/words"}
    assert name_in(config) == "${paths.discriminator}"  # so that an override starts another training


def test_a_path_that_is_part_of_another_components_stays(forgotten):
    config = forgotten({"root": ROOT}, words={"path": "${paths.root}/words", "other": ["${paths.discriminator}"]})
    assert config["paths"]["root"] == ROOT


def test_a_discriminator_that_others_read_stays_for_them_alone(forgotten, model_dir):
    config = forgotten({}, words={"path": "${paths.discriminator}/vocab.txt"})
    assert config["paths"]["discriminator"] == str(model_dir)
    assert name_in(config) is None


@pytest.mark.parametrize("path", ["${components.transformer.model.name}", "${paths}", "${corpora.train.path}"])
def test_what_others_read_by_another_way_stays(forgotten, model_dir, path):
    corpus = {"train": {"@readers": "spacy.Corpus.v1", "path": "${paths.train}"}}
    config = forgotten({"train": ROOT}, words={"path": path}, corpora=corpus)
    found = config.interpolate()["components"]["words"]["path"]
    assert found in (str(model_dir), ROOT) or (found["train"], found["discriminator"]) == (ROOT, str(model_dir))


def test_what_training_reads_goes_however_it_is_written(forgotten):
    config = forgotten(
        {"root": ROOT, "mine": f"{ROOT}/mine", "logs": "training/logs"},
        corpora={
            "train": {"@readers": "spacy.Corpus.v1", "path": "${paths.root}/train.spacy"},
            "dev": {"@readers": "spacy.Corpus.v1", "path": "corpus/dev.spacy"},
            "more": {"@readers": "my_reader.v1", "folder": f"{ROOT}/more", "kind": "corpora"},
        },
        training={"logger": {"@loggers": "spacy.ConsoleLogger.v3", "output_file": "${paths.logs}"}},
    )
    text = config.to_str(interpolate=False)
    assert text.count(ROOT) == 1
    assert (config["paths"]["mine"], config["paths"]["logs"]) == (f"{ROOT}/mine", None)  # nobody said who reads mine
    assert (config["corpora"]["dev"]["path"], config["corpora"]["more"]["kind"]) == (None, "corpora")


def test_variables_may_stand_in_any_section(forgotten, model_dir):
    config = forgotten({}, name="${vars.encoder}", vars={"encoder": str(model_dir), "words": ROOT})
    assert config["vars"] == {"encoder": None, "words": ROOT}


def test_paths_that_a_variable_is_made_of_go_with_it(forgotten):
    config = forgotten({"root": ROOT, "train": "${paths.root}/train"}, name="${paths.root}/discriminator")
    assert str(ROOT) not in config.to_str(interpolate=False)


def test_a_pipeline_with_another_components_path_loads_after_it_was_saved(make_nlp, model_dir, tmp_path):
    (tmp_path / "words.txt").write_text("red")
    config = make_nlp().config.copy()
    config["paths"] = {"discriminator": str(model_dir), "words": str(tmp_path / "words.txt")}
    config["components"]["transformer"]["model"]["name"] = "${paths.discriminator}"
    config["components"]["words"] = {"factory": "words", "path": "${paths.words}"}
    config["nlp"]["pipeline"] = ["transformer", "words"]
    nlp = spacy.util.load_model_from_config(config, auto_fill=True)
    nlp.get_pipe("transformer").model.initialize()
    forget_paths(nlp).to_disk(tmp_path / "saved")
    assert spacy.load(tmp_path / "saved").pipe_names == ["transformer", "words"]
    assert str(model_dir) not in Path(tmp_path / "saved" / "config.cfg").read_text()
