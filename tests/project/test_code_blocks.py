"""Every block of code in README and docs: commands are parsed, configs filled, Python runs, or a marker says why not.

A marker is a line `<!-- not run: REASON -->` above the block. Pages of experiments are records and stay as they were.
"""

import re
import shlex
from collections.abc import Iterator
from configparser import ConfigParser
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import pytest
import spacy
from confection import Config
from spacy.cli import app as spacy_app
from spacy.cli._util import registry
from spacy.tokens import Doc, DocBin
from spacy.training import Example
from typer.main import get_command

from spacy_electra.cli import app as electra_app
from spacy_electra.cli.configs import pipeline_config, pretrain_config

ROOT = Path(__file__).parents[2]
NAMES = ["README.md", "CONTRIBUTING.md", "assets/README.md"]
PAGES = [*(ROOT / name for name in NAMES), *sorted((ROOT / "docs").glob("*.md"))]
MARKER = r"(?P<marker><!-- not run: .+ -->\n\n?)?"
BLOCK = re.compile(MARKER + r"^(?P<indent> *)```(?P<kind>\w+)\n(?P<text>.*?)^ *```$", re.M | re.S)
SHELL, PYTHON, CONFIGS = {"bash"}, {"python"}, {"ini", "cfg"}


@dataclass(frozen=True)
class Block:
    page: Path
    line: int
    kind: str
    text: str
    is_run: bool  # False: a marker says why not

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks_of(page: Path) -> Iterator[Block]:
    text = page.read_text(encoding="utf8")
    for found in BLOCK.finditer(text):
        lines = [line.removeprefix(found["indent"]) for line in found["text"].splitlines()]
        line = text.count("\n", 0, found.start("kind")) + 1
        yield Block(page, line, found["kind"], "\n".join(lines), is_run=found["marker"] is None)


BLOCKS = [block for page in PAGES for block in blocks_of(page)]
RUN = [block for block in BLOCKS if block.is_run]


def commands_in(text: str) -> Iterator[list[str]]:
    """The words of each command, without comments and variables of the environment."""
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
            del words[0]
        if words:
            yield words


def parse(command: click.Command, words: list[str]) -> None:
    """Raise click's error where the words are no call of the command."""
    context = click.Context(command)
    while isinstance(command, click.Group):
        if not words:
            return
        found = command.get_command(context, words[0])
        assert found is not None, f"there is no command {words[0]!r}"
        command, words, context = found, words[1:], click.Context(found, parent=context)
    command.make_context(command.name, list(words), parent=context.parent)


def check_command(words: list[str]) -> None:
    match words:
        case ["make", *arguments]:
            known = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf8"), re.M)
            assert {word for word in arguments if "=" not in word} <= set(known)
        case [program, "-m", "spacy", "electra", *rest] if program.endswith(("python", "python3")):
            parse(get_command(electra_app), rest)
        case [program, "-m", "spacy", *rest] if program.endswith(("python", "python3")):
            parse(get_command(spacy_app), rest)
        case ["torchrun", *rest]:
            place = rest.index("-m")
            check_command(["python", *rest[place:]])
        case ["pip", "install", *rest]:
            setup = ConfigParser()
            setup.read(ROOT / "setup.cfg")
            for extras in re.findall(r"\[([a-z,]+)\]", " ".join(rest)):
                assert set(extras.split(",")) <= set(setup["options.extras_require"])
        case ["python", script, *_] if script.endswith(".py"):
            assert (ROOT / script).is_file()
        case [program, "-m", "pytest", *rest]:
            assert all((ROOT / word).exists() for word in rest if word.startswith("tests/"))
        case ["nohup", *rest]:
            check_command(rest)
        case [program, "-m", "venv" | "pip", *_]:
            pass
        case _:
            pytest.fail(f"no rule for {shlex.join(words)}: add one, or a marker above the block")


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_a_block_is_of_a_kind_that_is_checked(block: Block) -> None:
    assert block.kind in SHELL | PYTHON | CONFIGS | {"text"} or not block.is_run


@pytest.mark.parametrize("block", [block for block in RUN if block.kind in SHELL], ids=str)
def test_commands_are_calls_of_what_there_is(block: Block) -> None:
    commands = list(commands_in(block.text))
    assert commands
    for words in commands:
        check_command(words)


def parsed(text: str) -> Config:
    """Part of a config, whose outer sections may be missing; a line of dots stands for further keys."""
    lines = [line for line in text.splitlines() if line != "..."]
    sections = [line.strip("[]") for line in lines if line.startswith("[")]
    outer = {section.rsplit(".", number)[0] for section in sections for number in range(1, section.count(".") + 1)}
    missing = [f"[{section}]" for section in sorted(outer - set(sections))]
    return Config().from_str("\n".join([*missing, *lines]), interpolate=False)


def functions_in(config: Config) -> Iterator[tuple[str, Config]]:
    """The sections that name a registered function, with the registry's name."""
    for value in config.values():
        if isinstance(value, dict):
            yield from ((key.removeprefix("@"), value) for key in value if key.startswith("@"))
            yield from functions_in(value)


@pytest.mark.parametrize("block", [block for block in RUN if block.kind in CONFIGS], ids=str)
def test_configs_name_what_there_is(block: Block) -> None:
    config = parsed(block.text)
    pipeline = pipeline_config(["ner", "textcat"], size="tiny", lang="en", gpu=False, frozen=False)
    generated = {**pipeline, **pretrain_config("tiny", gpu=False)}
    assert config.keys() <= {*generated, "corpora", "teacher"}
    for name, section in functions_in(config):
        assert registry.has(name, section[f"@{name}"])
        registry.fill({"section": section}, validate=True)


@pytest.mark.parametrize("page", sorted({block.page for block in RUN if block.kind in PYTHON}), ids=str)
def test_python_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One block after another, in a folder where the commands of the page have left a pipeline."""
    monkeypatch.chdir(tmp_path)
    nlp = spacy.blank("en")
    model = {
        "@architectures": "spacy-electra.ElectraTransformer.v2",
        "name": str(ROOT / "assets" / "electra-tiny" / "discriminator"),
    }
    nlp.add_pipe("transformer", config={"model": model})
    listener = {"@architectures": "spacy-transformers.TransformerListener.v1", "pooling": {"@layers": "reduce_mean.v1"}}
    nlp.add_pipe("ner", config={"model": {"@architectures": "spacy.TransitionBasedParser.v2", "tok2vec": listener}})
    doc = Doc(nlp.vocab, words=["Paris", "calls"], ents=["B-GPE", "O"])
    examples = [Example(nlp.make_doc(doc.text), doc)]
    nlp.initialize(lambda: examples)
    (tmp_path / "training" / "pipeline").mkdir(parents=True)
    nlp.to_disk(tmp_path / "training" / "pipeline" / "model-best")
    names: dict[str, Any] = {"examples": examples}
    for block in RUN:
        if block.page == page and block.kind in PYTHON:
            exec(compile(block.text, str(block), "exec"), names)
    if any("spacy.load(" in block.text for block in RUN if block.page == page):
        assert names["nlp"].pipe_names == nlp.pipe_names  # what the page loaded, and went on training
        assert names["nlp"](doc.text).has_annotation("ENT_IOB")
    else:
        (made,) = DocBin().from_disk(tmp_path / "train.spacy").get_docs(names["nlp"].vocab)
        assert made.ents
        assert made.cats
