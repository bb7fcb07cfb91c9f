"""`spacy electra average`: the average of models that started from the same weights."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import typer
from wasabi import msg

from spacy_electra.cli.errors import clear_errors
from spacy_electra.cli.folder_kinds import MODEL, check_kind
from spacy_electra.cli.halves import Halves, check_no_model, count, read_halves, write_halves
from spacy_electra.cli.outputs import check_folder
from spacy_electra.cli.runs import model_folder
from spacy_electra.data.tokenizer.difference import cut_alike, difference
from spacy_electra.model.files.names import is_encoder
from spacy_electra.model.files.saved_model import SavedModel, with_body
from spacy_electra.model.init.average import averaged


@clear_errors
def average_cli(
    sources: list[str] = typer.Argument(
        ..., metavar="MODEL...", help="Two or more: folders of runs or models, or names on the hub"
    ),
    out_dir: Path = typer.Argument(..., help="Folder for the average"),
    weights: str | None = typer.Option(
        None, "--weights", "-w", help="Weight of each model, comma-separated; equal if omitted"
    ),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace an existing model"),
) -> None:
    """Average the weights of models that started from the same weights.

    The average of a model before and after pretraining often keeps what the first one knew, and adds what is new.
    Heads are averaged over the models that have them.

    \b
    Example:
      python -m spacy electra average assets/electra-en training/pretrain models/average --weights 1,2
    """
    check_kind(out_dir, MODEL)
    check_no_model(out_dir, overwrite=overwrite)
    shares = shares_of(weights, len(sources))
    check_folder(out_dir)
    models = [read_halves(model_folder(source)) for source in sources]
    answer = average_of(models, shares)
    write_halves(answer, out_dir)
    msg.good(f"Averaged {len(models)} models, {count(answer.discriminator) / 1e6:.1f} M parameters, into {out_dir}")
    print(f"The pipeline's `name` is {out_dir if answer.generator is None else out_dir / 'discriminator'}")


def average_of(models: Sequence[Halves], shares: Sequence[float]) -> Halves:
    """Average both halves. Raises ValueError if the models differ in vocabulary, shape or kind of generator."""
    first = models[0]
    for other in models[1:]:
        if not cut_alike(first.tokenizer, other.tokenizer):
            raise ValueError(
                f"{first.discriminator.folder} and {other.discriminator.folder} have different vocabularies "
                f"({difference(first.tokenizer, other.tokenizer)}): their word embeddings have no average."
            )
    whole = averaged([model.discriminator for model in models], shares)
    guessing = [(model, share) for model, share in zip(models, shares, strict=True) if model.generator is not None]
    if not guessing:
        return replace(first, discriminator=whole)
    if len({model.is_tied for model, _ in guessing}) > 1:
        raise ValueError(
            "some of the generators have a body of their own and others share the discriminator's: they have no "
            "average. Average the discriminators alone."
        )
    generators = [model.generator for model, _ in guessing if model.generator is not None]
    is_tied = guessing[0][0].is_tied
    if is_tied:
        generators = [_head(generator) for generator in generators]
    generator = averaged(generators, [share for _, share in guessing])
    return Halves(first.tokenizer, whole, with_body(generator, whole), is_tied)


def _head(generator: SavedModel) -> SavedModel:
    """The weights that a generator has besides the discriminator's body."""
    return replace(generator, weights={n: w for n, w in generator.weights.items() if not is_encoder(n)})


def shares_of(weights: str | None, models: int) -> list[float]:
    """The numbers of --weights. Raises ValueError unless there is a number above 0 for each model."""
    if models < 2:
        raise ValueError("an average needs two models or more: give them before the folder to write.")
    if weights is None:
        return [1.0] * models
    try:
        shares = [float(part) for part in weights.split(",")]
    except ValueError:
        shares = []
    if len(shares) != models or not all(0 < share < float("inf") for share in shares):
        raise ValueError(
            f"--weights must be {models} numbers above 0 separated by commas, one for each model, but is {weights!r}."
        )
    return shares
