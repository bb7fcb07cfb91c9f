"""`spacy electra ...`: adds this package's commands to spaCy's own.

Loaded at every `python -m spacy`, so nothing heavy is imported here. A command's module is imported when it is called.
"""

from collections.abc import Iterator, MutableMapping
from importlib import import_module
from importlib.metadata import version
from typing import Any

import typer
from spacy.cli._util import app as spacy_app
from typer.core import TyperGroup
from typer.main import get_command

# Command -> module below this package; the function or app in it is called MODULE_cli, as in spaCy.
COMMANDS = {
    "init-config": "init_config",
    "corpus": "corpus",
    "train-tokenizer": "train_tokenizer",
    "tokenize": "tokenize",
    "pretrain": "pretrain",
    "evaluate": "evaluate",
    "export": "export",
    "prune": "prune",
    "average": "average",
    "quantize": "quantize",
    "debug": "debug",
    "benchmark": "benchmark",
}
# Commands that take --section.key VALUE
WITH_OVERRIDES = {"allow_extra_args": True, "ignore_unknown_options": True}
OVERRIDABLE = {"pretrain"}


class _Commands(MutableMapping[str, Any]):
    """Click commands by name, created when they are looked up."""

    def __init__(self) -> None:
        self._made: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._made:
            self._made[name] = _load(name)
        return self._made[name]

    def __setitem__(self, name: str, command: Any) -> None:
        self._made[name] = command

    def __delitem__(self, name: str) -> None:
        del self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(COMMANDS)

    def __len__(self) -> int:
        return len(COMMANDS)


def _load(name: str) -> Any:
    """The click command. Raises KeyError for an unknown name."""
    module = COMMANDS[name]
    found = getattr(import_module(f"{__name__}.{module}"), f"{module}_cli")
    if isinstance(found, typer.Typer):
        return get_command(found)
    alone = typer.Typer(add_completion=False, rich_markup_mode=None)
    alone.command(name, context_settings=WITH_OVERRIDES if name in OVERRIDABLE else None)(found)
    return get_command(alone)


class _LazyGroup(TyperGroup):
    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands = _Commands()


app = typer.Typer(name="electra", cls=_LazyGroup, no_args_is_help=True, add_completion=False, rich_markup_mode=None)


PACKAGES = ("spacy-electra", "spacy", "spacy-transformers", "thinc", "torch", "transformers")


def _show_versions(is_wanted: bool) -> None:
    if is_wanted:
        for package in PACKAGES:
            typer.echo(f"{package} {version(package)}")
        raise typer.Exit()


@app.callback()
def _electra(
    versions: bool = typer.Option(
        False,
        "--version",
        is_eager=True,
        callback=_show_versions,
        help="Show the versions of the packages in use",
    ),
) -> None:
    """Pretrain ELECTRA transformers on raw text, and use them in spaCy pipelines."""


spacy_app.add_typer(app)
