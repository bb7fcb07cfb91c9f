"""`spacy electra debug config`: check a pretraining config, and describe its run."""

from pathlib import Path
from typing import Any

import typer
from spacy.cli._util import import_code, parse_config_overrides
from wasabi import msg

from spacy_electra.cli.corpora import shares, shares_in_words
from spacy_electra.cli.errors import clear_errors
from spacy_electra.cli.settings import PretrainingConfig, read_pretraining_config, shapes_in
from spacy_electra.data.store.reader import Store
from spacy_electra.training.schedule import WARMUP_STEPS
from spacy_electra.training.schema import Training


@clear_errors
def debug_config(
    ctx: typer.Context,
    path: Path = typer.Argument(..., metavar="CONFIG", help="Pretraining config"),
    code: Path | None = typer.Option(None, "--code", "-c", help="Python file to import first"),
) -> None:
    """Check every section, key and value of a pretraining config, and describe its run.

    Settings of the config can be overridden, as for `pretrain`.

    \b
    Example:
      python -m spacy electra debug config pretrain.cfg --training.max_minutes 5
    """
    import_code(code)
    settings = read_pretraining_config(path, parse_config_overrides(list(ctx.args)))
    shapes_in(settings.config["model"], vocab_size=1)  # the vocabulary may not be there yet
    msg.good(f"{path} is valid")
    msg.table([(name, str(value)) for name, value in plan_of(settings).items()])
    for name in ("train", "dev", "tokenizer"):
        place = getattr(settings.paths, name)
        if place is not None and not Path(place).exists():
            msg.warn(f"paths.{name}: there is no {place} yet.")
    for name, corpus in settings.corpora.items():
        if not Path(corpus.path).exists():
            msg.warn(f"corpora.{name}.path: there is no {corpus.path} yet.")
    if (start := settings.paths.init) is not None and not Path(start).exists():
        msg.warn(f"paths.init: there is no folder {start}; pretrain will look for a model of this name on the hub.")


def plan_of(settings: PretrainingConfig) -> dict[str, Any]:
    """Describe a run with these settings, by name."""
    model, training = settings.config["model"], settings.training
    window, optimizer = model["window"], training.optimizer
    tokens = window * training.batch_rows
    budgets = {"steps": training.max_steps, "epochs": training.max_epochs, "minutes": training.max_minutes}
    plan = {"objective": model["objective"]}
    for part in ("discriminator", "generator"):
        if model.get(part):
            plan[part] = ", ".join(f"{key} {number}" for key, number in model[part].items())
    plan |= {
        "rows": f"{window} pieces each",
        "a step": f"{training.batch_rows:,} rows, {tokens:,} pieces; {micro_batch_in_words(training)} at a time",
        "guessed": f"{training.mask_rate:.0%} of the positions, {training.unmasked_fraction:.0%} of them readable",
        "learning rate": f"up to {float(optimizer.learn_rate):g}, after {training.warmup:.0%} of the budget or "
        f"{WARMUP_STEPS:,} steps",
        "budget": " or ".join(f"{number:,} {unit}" for unit, number in budgets.items() if number),
    }
    if (teacher := settings.teacher) is not None:
        plan["teacher"] = (
            f"{teacher.name}, weight {teacher.weight:g}, falling to 0 in {teacher.until:.0%} of the budget"
        )
    if training.max_steps:
        plan["pieces read"] = f"{tokens * training.max_steps:,} in all steps"
    if settings.corpora:
        plan["rows come from"] = shares_in_words(settings.corpora)
    if (Path(settings.paths.train) / "manifest.json").is_file():
        store = Store.open(settings.paths.train)
        plan["corpus"] = f"{store.documents:,} documents, {store.pieces:,} pieces"
        plan["an epoch"] = f"about {store.pieces / tokens / shares(settings.corpora)['train']:,.1f} steps"
    return plan


def micro_batch_in_words(training: Training) -> str:
    """Describe the rows of a forward pass."""
    if training.micro_batch_size == "auto":
        return "as many as fit"
    return f"{training.micro_batch_size:,} rows" if training.micro_batch_size else "all rows"
