"""`spacy electra prune`: a smaller model with fewer layers and the pieces that a corpus uses."""

from pathlib import Path

import typer
from wasabi import msg

from spacy_electra.cli.documents import CORPUS, MAX_FAULTS, ReadingLimits
from spacy_electra.cli.errors import clear_errors
from spacy_electra.cli.folder_kinds import MODEL, check_kind
from spacy_electra.cli.halves import check_no_model, count, read_halves, write_halves
from spacy_electra.cli.outputs import check_folder
from spacy_electra.cli.pieces_used import pieces_used
from spacy_electra.cli.runs import model_folder


@clear_errors
def prune_cli(
    source: str = typer.Argument(..., metavar="CHECKPOINT", help="Folder of a run or a model, or a name on the hub"),
    out_dir: Path = typer.Argument(..., help="Folder for the smaller model"),
    layers: str | None = typer.Option(
        None, "--layers", help="How many of the lowest layers to keep, or their numbers from 0, comma-separated"
    ),
    vocab_size: int | None = typer.Option(None, "--vocab-size", "-n", min=10, help="Maximum pieces to keep"),
    corpus: list[str] | None = typer.Option(
        None, "--corpus", "-c", help=f"Text whose pieces are kept; repeatable. {CORPUS}"
    ),
    max_faults: int = typer.Option(MAX_FAULTS, "--max-faults", min=0, help="Number of broken lines to tolerate"),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace an existing model"),
) -> None:
    """Make a smaller ELECTRA from an ELECTRA, BERT or DistilBERT, by layers and vocabulary.

    Use the result as `name` of a component, or as `paths.init`. A generator beside the discriminator is pruned as well.

    \b
    Example:
      python -m spacy electra prune bert-base-uncased models/small --layers 4 --vocab-size 20000 --corpus raw.jsonl
    """
    check_kind(out_dir, MODEL)
    check_no_model(out_dir, overwrite=overwrite)
    if vocab_size is not None and not corpus:
        raise ValueError("--vocab-size needs a --corpus to choose the pieces by: give text like that to come.")
    if layers is None and not corpus:
        raise ValueError("nothing to prune: give --layers, or --corpus with or without --vocab-size.")
    check_folder(out_dir)
    model = read_halves(model_folder(source))
    before = count(model.discriminator)
    if layers is not None:
        model = model.with_layers(numbers_of(layers, there=model.discriminator.shape.layers))
    if corpus:
        pieces = pieces_used(corpus, model.tokenizer, vocab_size=vocab_size, limits=ReadingLimits(max_faults))
        model = model.with_tokenizer(pieces)
    write_halves(model, out_dir)
    shape = model.discriminator.shape
    msg.good(
        f"Wrote {shape.layers} layers and {shape.vocab:,} pieces, {count(model.discriminator) / 1e6:.1f} of "
        f"{before / 1e6:.1f} M parameters, {out_dir}"
    )


def numbers_of(layers: str, *, there: int) -> list[int]:
    """The layer numbers that --layers names. Raises ValueError if there are none, or if the model lacks one.

    there: number of layers of the model.
    """
    try:
        numbers = [int(part) for part in layers.split(",")]
    except ValueError:
        raise ValueError(f"--layers must be a number, or numbers separated by commas, but is {layers!r}.") from None
    chosen = numbers if "," in layers else list(range(min(numbers[0], there + 1)))
    if not chosen or not all(0 <= number < there for number in chosen):
        raise ValueError(
            f"--layers {layers} asks for others than the {there} layers of the model: give how many of the lowest to "
            f"keep, 1 to {there}, or numbers from 0 to {there - 1} separated by commas."
        )
    return chosen
