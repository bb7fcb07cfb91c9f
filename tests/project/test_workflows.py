"""The project file as spaCy's runner reads it: every script line is one command, and what it calls is there."""

import shlex
from pathlib import Path

import pytest
import srsly
from weasel.util import load_project_config

ROOT = Path(__file__).parents[2]
WRITTEN = {command["name"]: command["script"] for command in srsly.read_yaml(ROOT / "project.yml")["commands"]}


@pytest.fixture(scope="module")
def scripts() -> dict[str, list[str]]:
    """Script lines by command, variables filled in."""
    config = load_project_config(ROOT, overrides={"vars.data": "elsewhere"})
    return {command["name"]: command["script"] for command in config["commands"]}


@pytest.mark.parametrize("name", WRITTEN)
def test_filling_in_variables_joins_no_lines(name: str, scripts: dict[str, list[str]]) -> None:
    assert len(scripts[name]) == len(WRITTEN[name])
    assert all(shlex.split(line).count("python") == 1 for line in scripts[name])


def test_filling_in_variables_joins_no_dependencies() -> None:
    written = {
        command["name"]: command.get("deps", []) for command in srsly.read_yaml(ROOT / "project.yml")["commands"]
    }
    for command in load_project_config(ROOT, overrides={})["commands"]:
        assert len(command.get("deps", [])) == len(written[command["name"]]), command["name"]


def test_every_script_that_is_called_is_there(scripts: dict[str, list[str]]) -> None:
    words = {word for lines in scripts.values() for line in lines for word in shlex.split(line)}
    called = {word for word in words if word.startswith("scripts/")}
    assert len(called) >= 8
    assert all((ROOT / name).is_file() for name in called)
