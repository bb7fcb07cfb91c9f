"""`spacy electra prune`: a smaller model out of a large one, with fewer layers and the pieces that a corpus uses."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import typer
from wasabi import msg

from spacy_electra.cli.documents import CORPUS, MAX_FAULTS
from spacy_electra.cli.errors import clear_errors
from spacy_electra.cli.folder_kinds import MODEL, check_kind
from spacy_electra.cli.outputs import check_folder
from spacy_electra.cli.pieces_used import pieces_used
from spacy_electra.cli.runs import model_folder
from spacy_electra.data.replacing import replaced_folder
from spacy_electra.data.tokenizer_files import STALE
from spacy_electra.data.wordpiece import WordPiece
from spacy_electra.model.hub import CONFIG, find_discriminator, find_generator
from spacy_electra.model.huggingface import replaced_model, write_saved
from spacy_electra.model.huggingface_format import is_encoder
from spacy_electra.model.reshaping import cut_to, with_layers, with_vocabulary
from spacy_electra.model.saved_model import (
    SavedModel,
    check_encoder,
    check_vocabulary,
    has_own_body,
    read_model,
    tokenizer_of,
    with_body,
)
from spacy_electra.model.transplant import transplant
from spacy_electra.model.weight_files import INDEX, OLD_INDEX, OLD_WEIGHTS, WEIGHTS

HALVES = ("discriminator", "generator")
PLAIN = (CONFIG, WEIGHTS, INDEX, OLD_WEIGHTS, OLD_INDEX, *STALE)  # of a model without halves


@clear_errors
def prune(
    source: str = typer.Argument(..., metavar="CHECKPOINT", help="Folder of a run or a model, or a name on the hub"),
    out_dir: Path = typer.Argument(..., help="Folder for the smaller model"),
    layers: str | None = typer.Option(
        None, "--layers", help="Keep the lowest, this many; or those with these numbers from 0, apart by commas"
    ),
    vocab_size: int | None = typer.Option(None, "--vocab-size", "-n", min=10, help="Most pieces to keep"),
    corpus: list[str] | None = typer.Option(
        None, "--corpus", "-c", help=f"Text whose pieces are kept; give it again for more. {CORPUS}"
    ),
    max_faults: int = typer.Option(MAX_FAULTS, "--max-faults", min=0, help="Broken lines to tolerate"),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace the model that is there"),
) -> None:
    """Write a smaller ELECTRA out of an ELECTRA, BERT or DistilBERT: for `name` of a component, or `paths.init`.

    Both halves are pruned where a generator stands beside the discriminator.

    \b
    Example:
      python -m spacy electra prune bert-base-uncased models/small --layers 4 --vocab-size 20000 --corpus raw.jsonl
    """
    check_kind(out_dir, MODEL)
    if not overwrite and any((out_dir / name / CONFIG).exists() for name in ("", *HALVES)):
        raise ValueError(f"{out_dir} holds a model already: add --overwrite, or give another folder.")
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
        pieces = pieces_used(corpus, model.tokenizer, vocab_size=vocab_size, max_faults=max_faults)
        model = model.with_tokenizer(pieces)
    write_halves(model, out_dir)
    shape = model.discriminator.shape
    msg.good(
        f"Wrote {shape.layers} layers and {shape.vocab:,} pieces, {count(model.discriminator) / 1e6:.1f} of "
        f"{before / 1e6:.1f} M parameters, {out_dir}"
    )


@dataclass(frozen=True)
class Halves:
    """A model to prune."""

    tokenizer: WordPiece
    discriminator: SavedModel
    generator: SavedModel | None
    is_tied: bool  # the generator's body is the discriminator's

    def with_layers(self, chosen: list[int]) -> "Halves":
        """A generator with a body of its own keeps all of its layers."""
        generator = self.generator
        if generator is not None and self.is_tied:
            generator = with_layers(generator, chosen)
        return Halves(self.tokenizer, with_layers(self.discriminator, chosen), generator, self.is_tied)

    def with_tokenizer(self, tokenizer: WordPiece) -> "Halves":
        found, size = transplant(self.tokenizer, tokenizer), self.tokenizer.size
        halves = [
            None if half is None else with_vocabulary(half, found, old_size=size)
            for half in (self.discriminator, self.generator)
        ]
        assert halves[0] is not None
        return Halves(tokenizer, halves[0], halves[1], self.is_tied)


def read_halves(name: str) -> Halves:
    """The discriminator of a folder or hub name, and the generator where one is beside it."""
    discriminator = read_model(find_discriminator(name))
    check_encoder(discriminator)
    folder = find_generator(name, None)
    tokenizer = tokenizer_of(discriminator)
    whole = cut_to(discriminator, tokenizer.size)
    if folder is None:
        return Halves(tokenizer, whole, None, is_tied=False)
    generator = with_body(read_model(folder), discriminator)
    check_encoder(generator)
    check_vocabulary(tokenizer, generator.shape, str(folder))
    is_tied = not has_own_body(generator, discriminator)
    return Halves(tokenizer, whole, cut_to(generator, tokenizer.size), is_tied)


def write_halves(model: Halves, out_dir: Path) -> None:
    """One plain folder, or one for each half."""
    if model.generator is None:
        with replaced_model(out_dir) as folder:
            write_saved(model.discriminator, model.tokenizer, folder)
        for name in HALVES:  # which would be read first
            if (out_dir / name / CONFIG).is_file():
                shutil.rmtree(out_dir / name)
        return
    with replaced_folder(out_dir, last=HALVES[0], gone=PLAIN) as folder:
        for name, half in zip(HALVES, (model.discriminator, model.generator), strict=True):
            write_saved(half, model.tokenizer, folder / name)


def numbers_of(layers: str, *, there: int) -> list[int]:
    """The layers that --layers names. Raises ValueError where it names none, or others than the model has."""
    try:
        numbers = [int(part) for part in layers.split(",")]
    except ValueError:
        raise ValueError(f"--layers must be a number, or numbers apart by commas, but is {layers!r}.") from None
    chosen = numbers if "," in layers else list(range(min(numbers[0], there + 1)))
    if not chosen or not all(0 <= number < there for number in chosen):
        raise ValueError(
            f"--layers {layers} asks for others than the {there} layers of the model: give how many of the lowest to "
            f"keep, 1 to {there}, or numbers from 0 to {there - 1} apart by commas."
        )
    return chosen


def count(saved: SavedModel) -> int:
    """Parameters of an encoder."""
    return sum(tensor.numel() for name, tensor in saved.weights.items() if is_encoder(name))
