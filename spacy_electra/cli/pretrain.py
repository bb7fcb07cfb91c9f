"""`spacy electra pretrain`: the command's signature; the work is in `pretraining.py`, which is imported late."""

from pathlib import Path

import typer

from spacy_electra.cli.errors import clear_errors


@clear_errors
def pretrain_cli(
    ctx: typer.Context,
    config: Path = typer.Argument(..., help="Pretraining config, as `spacy electra init-config` writes it"),
    output: Path = typer.Option(..., "--output", "-o", help="Folder of the run"),
    resume: bool = typer.Option(False, "--resume", help="Go on with the run in --output; on an empty folder, start"),
    gpu_id: int = typer.Option(-1, "--gpu-id", "-g", help="Number of the GPU; -1 for the CPU"),
    code: Path | None = typer.Option(
        None, "--code", "-c", help="Python file to import first, for registered functions"
    ),
) -> None:
    """Pretrain generator and discriminator on a token store.

    Settings of the config can be overridden behind the options. Ctrl-C writes a checkpoint before it ends the run.

    \b
    Example:
      python -m spacy electra pretrain pretrain.cfg --output training/pretrain --training.max_minutes 15
    """
    from spacy_electra.cli.pretraining import run_pretraining

    status = run_pretraining(config, output=output, resume=resume, gpu_id=gpu_id, code=code, arguments=ctx.args)
    if status:
        raise typer.Exit(status)
