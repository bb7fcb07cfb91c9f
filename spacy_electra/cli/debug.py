"""`spacy electra debug`: inspect a config, a corpus, a tokenizer, a model or a machine before a run."""

import typer

from spacy_electra.cli import WITH_OVERRIDES
from spacy_electra.cli.debug_backend import debug_backend
from spacy_electra.cli.debug_config import debug_config
from spacy_electra.cli.debug_data import debug_data
from spacy_electra.cli.debug_model import debug_model
from spacy_electra.cli.debug_pieces import debug_pieces

debug_cli = typer.Typer(name="debug", no_args_is_help=True, add_completion=False, rich_markup_mode=None)
debug_cli.command("config", context_settings=WITH_OVERRIDES)(debug_config)
debug_cli.command("data")(debug_data)
debug_cli.command("pieces")(debug_pieces)
debug_cli.command("model", context_settings=WITH_OVERRIDES)(debug_model)
debug_cli.command("backend")(debug_backend)


@debug_cli.callback()
def _debug() -> None:
    """Inspect a config, a corpus or store, the pieces of a text, a model, or the backends of this machine."""
