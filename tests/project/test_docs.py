"""docs/config.md against the code: every setting is there, with the default that it has."""

import inspect
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from spacy.util import load_config

from spacy_electra.cli.configs import pretrain_config
from spacy_electra.model.inference.backend import Backend
from spacy_electra.model.optim.adamw import adamw_v1
from spacy_electra.model.pretrainer import build_electra
from spacy_electra.pipeline.architectures import build_electra_transformer, build_tok2vec_electra
from spacy_electra.pipeline.vectors import create_vectors
from spacy_electra.training.metrics import SCORES
from spacy_electra.training.schema import Teacher

Rows = dict[str, list[str]]  # the cells of a table's rows after the first, by what stands in the first
TEXT = (Path(__file__).parents[2] / "docs" / "config.md").read_text(encoding="utf8")
CONFIGS = Path(__file__).parents[2] / "configs"
OPTIMIZER = "spacy-electra.AdamW.v1"
SECTIONS = ("paths", "system", "model", "model.discriminator", "training", "training.score_weights", "training.logger")


def table_of(heading: str) -> Rows:
    """The settings in the first table below a heading."""
    part = TEXT.split(f"### `{heading}`\n", 1)[1].split("\n#", 1)[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in part.splitlines() if line.startswith("|")]
    return {name.strip("`"): cells for name, *cells in rows[2:]}


def value_in(cell: str) -> Any:
    """What a cell such as `null` says."""
    text = cell.strip("`")
    return text if text.startswith("$") or text == "required" else json.loads(text)


def defaults_of(function: Callable[..., Any]) -> dict[str, Any]:
    parameters = inspect.signature(function).parameters.values()
    return {p.name: "required" if p.default is inspect.Parameter.empty else p.default for p in parameters}


@pytest.mark.parametrize("name", SECTIONS)
def test_every_key_of_a_generated_section_is_described_with_its_default(name: str):
    section: Any = pretrain_config("tiny", gpu=False)
    for part in name.split("."):
        section = section[part]
    expected = {k: v for k, v in section.items() if not k.startswith("@") and not isinstance(v, dict)}
    assert {key: value_in(cells[0]) for key, cells in table_of(f"[{name}]").items()} == expected


def test_every_key_of_the_teacher_is_described_with_its_default():
    described = {key: value_in(cells[0]) for key, cells in table_of("[teacher]").items()}
    fields = Teacher.model_fields.items()
    assert described == {key: "required" if field.is_required() else field.default for key, field in fields}


def test_every_argument_of_the_pretraining_model_is_described():
    assert table_of("[model]").keys() | {"discriminator"} == defaults_of(build_electra).keys()
    assert "`[model.discriminator]`" in TEXT


def test_every_argument_of_the_transformer_is_described_with_its_default():
    described = {key: value_in(cells[0]) for key, cells in table_of("spacy-electra.ElectraTransformer.v2").items()}
    assert described == defaults_of(build_electra_transformer)


def test_what_a_private_encoder_has_beside_is_described_with_its_default():
    described = {key: value_in(cells[0]) for key, cells in table_of("spacy-electra.Tok2VecElectra.v2").items()}
    assert defaults_of(build_electra_transformer) | described == defaults_of(build_tok2vec_electra)


def test_the_setting_of_the_vectors_is_described_with_its_default():
    described = {key: value_in(cells[0]) for key, cells in table_of("spacy-electra.vectors.v1").items()}
    assert described == defaults_of(create_vectors)


def test_every_argument_of_the_optimizer_is_described_with_its_default():
    described = {key: value_in(cells[0]) for key, cells in table_of(OPTIMIZER).items()}
    assert described == defaults_of(adamw_v1)


@pytest.mark.parametrize(("name", "column"), [("pretrain-tiny", 1), ("ner", 2)])
def test_what_generated_configs_set_of_the_optimizer_is_described(name: str, column: int):
    section = load_config(CONFIGS / f"{name}.cfg")["training"]["optimizer"]
    told = {key: cells[column] for key, cells in table_of(OPTIMIZER).items() if cells[column]}
    described = {key: value_in(cell) for key, cell in told.items() if cell.startswith("`")}
    by_schedule = told.keys() - described.keys()
    given = {key: value for key, value in section.items() if not key.startswith("@") and key not in by_schedule}
    known = {key: value for key, value in defaults_of(adamw_v1).items() if key not in by_schedule}
    assert known | described == known | given


def test_the_scores_are_those_that_an_evaluation_gives():
    told = TEXT.split("SCORE. Names are ", 1)[1].split(";", 1)[0]
    assert sorted(re.findall("`(.+?)`", told)) == sorted(SCORES)


def test_every_backend_is_described():
    text = (Path(__file__).parents[2] / "docs" / "backends.md").read_text(encoding="utf8")
    table = text.split("| backend | what it is | needs |\n", 1)[1].split("\n\n", 1)[0]
    assert sorted(re.findall("`([a-z]+ [a-z]+[0-9]+)`", table)) == sorted(backend.value for backend in Backend)
