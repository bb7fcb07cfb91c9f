"""The commands as a whole: how they are found, what they load, how they fail."""

import ast
import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import pytest
import typer

from spacy_electra.cli import COMMANDS
from spacy_electra.cli.errors import clear_errors, warn

Invoke = Callable[..., Any]
GROUPS = {"debug": ["config", "data", "pieces", "model", "backend"], "benchmark": ["pretrain", "pipeline"]}
HELPS = [[name] for name in COMMANDS if name not in GROUPS] + [
    [group, name] for group in GROUPS for name in GROUPS[group]
]

FRESH = """
import sys, time
import spacy.cli
before, start = set(sys.modules), time.process_time()
import spacy_electra.cli
seconds = time.process_time() - start
print(seconds, *sorted({name.partition(".")[0] for name in set(sys.modules) - before}))
from spacy.cli._util import app
print([group.name or group.typer_instance.info.name for group in app.registered_groups])
"""
BLANK = """
import sys
import spacy
spacy.blank("en")
print([name for name in sys.modules if name.partition(".")[0] == "spacy_electra"])
"""


@pytest.fixture(scope="module")
def fresh_import() -> list[str]:
    """What a fresh interpreter says of the import that happens at every `python -m spacy`."""
    run = subprocess.run([sys.executable, "-c", FRESH], capture_output=True, text=True, check=True)
    return run.stdout.splitlines()


def test_loading_with_spacy_imports_nothing_but_the_light_part_of_this_package(fresh_import: list[str]):
    _, *new = fresh_import[0].split()
    assert "spacy_electra" in new
    assert not {"transformers", "tokenizers", "spacy_transformers", "safetensors", "huggingface_hub"} & set(new)
    assert set(new) <= {"spacy_electra"} | set(sys.stdlib_module_names)


def test_a_blank_pipeline_imports_nothing_of_this_package_but_its_logger():
    run = subprocess.run([sys.executable, "-c", BLANK], capture_output=True, text=True, check=True)
    loaded = set(ast.literal_eval(run.stdout))
    assert loaded <= {"spacy_electra", "spacy_electra.training", "spacy_electra.training.tensorboard"}


def test_loading_with_spacy_is_quick(fresh_import: list[str]):
    assert float(fresh_import[0].split()[0]) < 0.1


def test_the_commands_hang_under_spacys_own(fresh_import: list[str]):
    assert "'electra'" in fresh_import[1]


@pytest.mark.parametrize("command", HELPS, ids=" ".join)
def test_every_command_shows_help_with_an_example(run_command: Invoke, command: list[str]):
    result = run_command(*command, "--help")
    assert result.exit_code == 0
    assert f"python -m spacy electra {' '.join(command)} " in result.stdout


def test_a_misspelt_command_names_the_nearest(run_command: Invoke):
    result = run_command("pretrian")
    assert result.exit_code != 0
    assert "Did you mean 'pretrain'?" in result.stderr


def test_versions_are_told_a_line_each(run_command: Invoke):
    lines = run_command("--version").stdout.splitlines()
    packages = ["spacy-electra", "spacy", "spacy-transformers", "thinc", "torch", "transformers"]
    assert lines == [f"{package} {version(package)}" for package in packages]


def test_help_of_the_group_lists_every_command(run_command: Invoke):
    listed = run_command("--help").stdout
    assert all(f"  {name} " in listed for name in COMMANDS)


@pytest.mark.parametrize(("name", "told"), [("tokenize", "it resumes"), ("train_tokenizer", "nothing was written")])
def test_ctrl_c_ends_a_command_with_one_line(capsys: pytest.CaptureFixture[str], name: str, told: str):
    def command() -> None:
        os.kill(os.getpid(), signal.SIGINT)

    command.__name__ = name
    with pytest.raises(typer.Exit) as ended:
        clear_errors(command)()
    assert ended.value.exit_code == 130
    assert told in capsys.readouterr().err


def test_a_name_that_is_no_unicode_is_told_all_the_same(capsys: pytest.CaptureFixture[str]):
    def command() -> None:
        warn("a warning about caf\udce9.jsonl")
        raise OSError(errno.EACCES, os.strerror(errno.EACCES), "caf\udce9.jsonl")

    with pytest.raises(typer.Exit):
        clear_errors(command)()
    said = capsys.readouterr()
    assert all("caf\\udce9.jsonl" in text for text in (said.out, said.err))


@pytest.mark.parametrize(
    ("number", "told"),
    [(errno.EACCES, "permission denied. Give a place that you may"), (errno.ENOSPC, "no space left on device. Free")],
)
def test_errors_of_the_system_name_the_file_and_what_to_do(capsys: pytest.CaptureFixture[str], number: int, told: str):
    def command() -> None:
        raise OSError(number, os.strerror(number), "some/file")

    with pytest.raises(typer.Exit) as ended:
        clear_errors(command)()
    assert ended.value.exit_code == 1
    assert f"some/file: {told}" in " ".join(capsys.readouterr().err.split())
