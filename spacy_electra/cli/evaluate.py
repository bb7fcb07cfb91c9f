"""`spacy electra evaluate`: held-out scores of a pretrained model on a store."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import typer
from wasabi import msg

from spacy_electra.cli.bars import bar
from spacy_electra.cli.configs import TEMPLATES
from spacy_electra.cli.device import choose_device
from spacy_electra.cli.errors import clear_errors
from spacy_electra.cli.folder_kinds import STORE, kind_of
from spacy_electra.cli.outputs import check_json, write_json
from spacy_electra.cli.run_setup import make_context, open_data
from spacy_electra.cli.runs import config_beside, model_folder
from spacy_electra.cli.settings import PretrainingConfig, read_pretraining_config
from spacy_electra.cli.start import read_start
from spacy_electra.model.files.hub import find_discriminator, find_generator
from spacy_electra.training.loop import evaluate_dev

MODEL_WINDOW = 128  # of a model that belongs to no run, as the packaged config trains


@clear_errors
def evaluate_cli(
    source: str = typer.Argument(..., metavar="RUN_OR_MODEL", help="Folder of a run, or of a model with a generator"),
    store_dir: Path = typer.Argument(..., metavar="STORE", help="Store that `tokenize` made with the same tokenizer"),
    best: bool = typer.Option(False, "--best", help="Use the run's model-best, not model-last"),
    whole: bool = typer.Option(False, "--all", help="Use all documents, as is done for a model without a run"),
    rows: int | None = typer.Option(None, "--rows", min=1, help="Maximum rows to read; default: the config's dev_rows"),
    gpu_id: int = typer.Option(-1, "--gpu-id", "-g", help="Number of the GPU; -1 for the CPU"),
    json_path: Path | None = typer.Option(None, "--json", help="File for the scores"),
) -> None:
    """Print losses, the generator's accuracy, and the discriminator's precision, recall, F1 and AUC.

    Rows, masks and samples follow from the run's seed, so the same command gives the same scores.

    \b
    Example:
      python -m spacy electra evaluate training/pretrain corpus/pretrain --json scores.json
    """
    if json_path is not None:
        check_json(json_path)
    if kind_of(Path(source)) == STORE:
        raise ValueError(f"{source} is a token store, expected a run or a model: give that first, the store behind it.")
    settings = config_for_evaluation(model_folder(source, best=best), store_dir, whole=whole, rows=rows)
    device = choose_device(gpu_id, memory_fraction=settings.system.gpu_memory_fraction)
    context = make_context(settings, open_data(settings), device, is_new=False)
    read = min(settings.training.dev_rows, context.dev.rows)
    msg.info(f"Scoring {read:,} rows of {context.dev.window} pieces on {device}")
    with bar(read, what="evaluate", unit=" rows") as progress:
        scores = evaluate_dev(context, on_rows=progress.update)
    msg.table([(name, f"{value:.4f}") for name, value in scores.items()], header=("score", "value"), divider=True)
    if json_path is not None:
        result = {"model": source, "store": str(store_dir), "rows": read, "scores": scores}
        if not write_json(json_path, result):
            raise typer.Exit(1)


def config_for_evaluation(model: str, store_dir: Path, *, whole: bool, rows: int | None) -> PretrainingConfig:
    """The settings of the run that `model` belongs to, or the packaged ones, for `model` and the store.

    Raises FileNotFoundError or ValueError if the folder lacks generator or discriminator.
    """
    discriminator = find_discriminator(model)
    overrides: dict[str, Any] = {
        "paths.train": str(store_dir),
        "paths.dev": str(store_dir) if whole else None,
        "paths.tokenizer": str(discriminator),
        "paths.init": model,
        "model.tokenizer": str(discriminator),
        "model.init": model,
    }
    if rows is not None:
        overrides["training.dev_rows"] = rows
    config = config_beside(Path(model))
    if config is None:
        overrides["paths.dev"] = str(store_dir)  # it has seen none of them
    else:
        settings = read_pretraining_config(config, overrides).with_model(init_layers=None)  # it has the layers already
        if find_generator(model, None) is not None:  # it may have been pruned since
            settings = settings.with_model(**_bodies(model))
        return replace(settings, teacher=None, corpora={})  # neither has a part in scores
    return read_pretraining_config(TEMPLATES / "pretrain.cfg", overrides).with_model(**_shapes(model))


def _bodies(model: str) -> dict[str, Any]:
    """The settings in [model] for the bodies of generator and discriminator."""
    start = read_start(model)
    return {"discriminator": start.discriminator, "generator": start.generator}


def _shapes(model: str) -> dict[str, Any]:
    """The settings in [model] for a model that belongs to no run."""
    if find_generator(model, None) is None:
        raise FileNotFoundError(
            f"{model} has no generator beside its discriminator, so nothing can be replaced and judged: "
            f"give the folder of a run, or one with discriminator/ and generator/."
        )
    return {"window": min(MODEL_WINDOW, read_start(model).positions), **_bodies(model)}
