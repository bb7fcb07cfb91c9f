"""`spacy electra pretrain`: the signature of the command. `pretraining.py` does the work and is imported late."""

from pathlib import Path

import typer

from spacy_electra.cli.errors import clear_errors


@clear_errors
def pretrain_cli(
    ctx: typer.Context,
    config: Path = typer.Argument(..., help="Pretraining config, as written by `spacy electra init-config`"),
    output: Path = typer.Option(..., "--output", "-o", help="Folder of the run"),
    resume: bool = typer.Option(False, "--resume", help="Resume the run in --output; start one if the folder is empty"),
    gpu_id: int = typer.Option(-1, "--gpu-id", "-g", help="Number of the GPU; -1 for the CPU"),
    code: Path | None = typer.Option(
        None, "--code", "-c", help="Python file to import first, for registered functions"
    ),
) -> None:
    """Pretrain generator and discriminator on a token store.

    Settings of the config can be overridden after the options. Ctrl-C saves a checkpoint and ends the run.

    \b
    Example:
      python -m spacy electra pretrain pretrain.cfg --output training/pretrain --training.max_minutes 15
    """
    from spacy_electra.cli.pretraining import run_pretraining

    status = run_pretraining(config, output=output, resume=resume, gpu_id=gpu_id, code=code, arguments=ctx.args)
    if status:
        raise typer.Exit(status)
