"""`spacy electra benchmark`: compare this package with other programs, measured in one run."""

import typer

from spacy_electra.cli.benchmark_pipeline import benchmark_pipeline
from spacy_electra.cli.benchmark_pretrain import benchmark_pretrain

benchmark_cli = typer.Typer(name="benchmark", no_args_is_help=True, add_completion=False, rich_markup_mode=None)
benchmark_cli.command("pretrain")(benchmark_pretrain)
benchmark_cli.command("pipeline")(benchmark_pipeline)


@benchmark_cli.callback()
def _benchmark() -> None:
    """Compare speed with reference programs; all take turns in one run."""
