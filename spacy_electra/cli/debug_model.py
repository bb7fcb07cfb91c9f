"""`spacy electra debug model`: build the model of a config, count its parameters and run it once."""

import math
import time
from pathlib import Path

import torch
import typer
from spacy.cli._util import import_code, parse_config_overrides
from spacy.util import registry
from torch import nn
from wasabi import msg

from spacy_electra.cli.errors import clear_errors
from spacy_electra.cli.settings import PretrainingConfig, read_pretraining_config
from spacy_electra.data.batch import Rows, Special
from spacy_electra.data.batches.masking import mask_rows
from spacy_electra.data.rng import row_keys
from spacy_electra.data.tokenizer.wordpiece import WordPiece
from spacy_electra.model.network.electra import Output
from spacy_electra.model.pretrainer import Batch, Pretrainer

SHOWN_ROWS = 4  # of the forward pass


@clear_errors
def debug_model(
    ctx: typer.Context,
    path: Path = typer.Argument(..., metavar="CONFIG", help="Pretraining config"),
    code: Path | None = typer.Option(None, "--code", "-c", help="Python file to import first"),
    shapes: bool = typer.Option(False, "--shapes", help="List every tensor with its shape"),
) -> None:
    """Print the number of parameters of each part of a model, and its losses on random rows.

    A new model with initialization = "paper" predicts at random, so both losses are near chance. With other starting
    weights they may differ.

    \b
    Example:
      python -m spacy electra debug model pretrain.cfg --model.discriminator.layers 6
    """
    import_code(code)
    settings = read_pretraining_config(path, parse_config_overrides(list(ctx.args)))
    model: Pretrainer = registry.resolve({"model": settings.config["model"]})["model"]
    network = model.network
    parts = [(name, f"{_count(part):,}") for name, part in network.named_children()]
    msg.table([*parts, ("all", f"{_count(network):,}")], header=("part", "parameters"), divider=True, aligns=("l", "r"))
    if shapes:
        msg.table([(name, str(tuple(tensor.shape))) for name, tensor in network.named_parameters()])
    _run(model, settings)


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _run(model: Pretrainer, settings: PretrainingConfig) -> None:
    tokenizer = WordPiece.load(settings.config["model"]["tokenizer"])
    rows = random_rows(model.attrs["window"], tokenizer.size, tokenizer.special, seed=settings.system.seed)
    training = settings.training
    masked = mask_rows(rows, tokenizer.special, rate=training.mask_rate, unmasked_fraction=training.unmasked_fraction)
    start = time.perf_counter()
    output: Output = model.predict(Batch(rows=rows, masked=masked))
    seconds = time.perf_counter() - start
    generator, discriminator = output.generator, output.discriminator
    losses = [("generator", generator.loss / generator.count, math.log(tokenizer.size))]
    if discriminator is not None:
        losses.append(("discriminator", discriminator.loss / discriminator.count, math.log(2)))
    table = [(name, f"{float(loss):.3f}", f"{chance:.3f}") for name, loss, chance in losses]
    msg.table(table, header=("half", "loss", "by chance"), divider=True, aligns=("l", "r", "r"))
    msg.text(f"{len(rows)} rows of {rows.ids.shape[1]} pieces in {seconds:.2f} s, the first pass included")


def random_rows(window: int, vocab_size: int, special: Special, *, seed: int) -> Rows:
    """SHOWN_ROWS full rows of uniformly drawn pieces, [CLS] first and [SEP] last."""
    shape = (SHOWN_ROWS, window)
    ids = torch.randint(max(special.all) + 1, vocab_size, shape, generator=torch.Generator().manual_seed(seed))
    ids[:, 0], ids[:, -1] = special.cls, special.sep
    row = torch.arange(SHOWN_ROWS)
    return Rows(
        ids=ids,
        types=torch.zeros(shape, dtype=torch.int64),
        segments=torch.ones(shape, dtype=torch.int64),
        positions=torch.arange(window).expand(shape),
        keys=row_keys(seed, epoch=torch.zeros_like(row), row=row),
    )
