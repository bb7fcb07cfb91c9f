"""A corpus, a vocabulary, a store and a run, each made once by the commands themselves."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from spacy_electra.cli import app
from spacy_electra.cli.configs import config_text, pretrain_config

Invoke = Callable[..., Any]

WORDS = [
    "the",
    "a",
    "small",
    "large",
    "model",
    "library",
    "reads",
    "writes",
    "returns",
    "tensor",
    "error",
    "file",
    "row",
    "piece",
    "when",
    "it",
    "is",
    "not",
    "found",
]
TINY = {
    "model.window": 16,
    "model.discriminator.layers": 2,
    "model.discriminator.width": 16,
    "model.discriminator.feed_forward": 32,
    "model.discriminator.heads": 2,
    "model.discriminator.embedding": 16,
    "training.max_steps": 4,
    "training.max_minutes": 0,
    "training.batch_rows": 4,
    "training.eval_frequency": 2,
    "training.dev_rows": 8,
}


@pytest.fixture(scope="session")
def tiny() -> list[str]:
    """Command line arguments that shrink a pretraining config to fractions of a second."""
    return [part for name, value in TINY.items() for part in (f"--{name}", str(value))]


@pytest.fixture(scope="session")
def run_command() -> Invoke:
    """Run `spacy electra ARGUMENTS`; the result has exit_code, stdout, stderr and exception."""

    def run(*arguments: Any) -> Any:
        return CliRunner().invoke(app, [str(argument) for argument in arguments])

    return run


@pytest.fixture(scope="session")
def electra(run_command: Invoke) -> Invoke:
    """Run a command that must succeed; what it printed, white space collapsed."""

    def run(*arguments: Any) -> str:
        result = run_command(*arguments)
        assert result.exit_code == 0, f"{result.stdout}\n{result.stderr}\n{result.exception!r}"
        return " ".join(result.stdout.split())

    return run


@pytest.fixture(scope="session")
def complaint(run_command: Invoke) -> Invoke:
    """Run a command that must fail with exit status 1; its one message, white space collapsed."""

    def run(*arguments: Any) -> str:
        result = run_command(*arguments)
        assert result.exit_code == 1, (result.exit_code, result.stdout)
        assert isinstance(result.exception, SystemExit), result.exception
        assert "Traceback" not in result.stderr
        return " ".join(result.stderr.split())

    return run


@pytest.fixture(scope="session")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cli")


@pytest.fixture(scope="session")
def corpus_path(work: Path) -> Path:
    """40 documents of one sentence each, no two alike."""
    path = work / "corpus.jsonl"
    rows = [" ".join(WORDS[(number * step) % len(WORDS)] for step in range(1, 30)) + "." for number in range(1, 41)]
    path.write_text("".join(json.dumps({"text": f"{row} {n}"}) + "\n" for n, row in enumerate(rows)), encoding="utf8")
    return path


@pytest.fixture(scope="session")
def tokenizer_dir(electra: Invoke, work: Path, corpus_path: Path) -> Path:
    electra("train-tokenizer", corpus_path, work / "tokenizer", "--vocab-size", 120)
    return work / "tokenizer"


@pytest.fixture(scope="session")
def store_dir(electra: Invoke, work: Path, corpus_path: Path, tokenizer_dir: Path) -> Path:
    electra("tokenize", corpus_path, work / "store", "--tokenizer", tokenizer_dir)
    return work / "store"


@pytest.fixture(scope="session")
def pretrain_cfg(work: Path, store_dir: Path, tokenizer_dir: Path) -> Path:
    config = pretrain_config("tiny", gpu=False)
    config["model"]["generator"] = {"layers": 1, "width": 8, "feed_forward": 16, "heads": 1}
    config["paths"].update(train=str(store_dir), tokenizer=str(tokenizer_dir))
    path = work / "pretrain.cfg"
    path.write_text(config_text(config), encoding="utf8")
    return path


@pytest.fixture(scope="session")
def run_dir(electra: Invoke, work: Path, pretrain_cfg: Path, tiny: list[str]) -> Path:
    """A finished run of four steps."""
    electra("pretrain", pretrain_cfg, "--output", work / "run", *tiny)
    return work / "run"
