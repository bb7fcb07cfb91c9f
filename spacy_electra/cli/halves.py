"""A model as commands read and write it: the discriminator, the generator if there is one, and their tokenizer."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from spacy_electra.cli.folder_kinds import TOKENIZER_KIND, kind_of
from spacy_electra.data.atomic_folder import replaced_folder
from spacy_electra.data.tokenizer.files import STALE
from spacy_electra.data.tokenizer.wordpiece import WordPiece
from spacy_electra.model.files.hub import CONFIG, find_discriminator, find_generator
from spacy_electra.model.files.huggingface import replaced_model, write_saved
from spacy_electra.model.files.names import is_encoder
from spacy_electra.model.files.saved_model import (
    SavedModel,
    check_encoder,
    check_vocabulary,
    has_own_body,
    read_model,
    tokenizer_of,
    with_body,
)
from spacy_electra.model.files.weight_files import INDEX, OLD_INDEX, OLD_WEIGHTS, WEIGHTS
from spacy_electra.model.init.reshape import cut_to, with_layers, with_vocabulary
from spacy_electra.model.init.transplant import transplant

HALVES = ("discriminator", "generator")
PLAIN = (CONFIG, WEIGHTS, INDEX, OLD_WEIGHTS, OLD_INDEX, *STALE)  # of a model without halves


@dataclass(frozen=True)
class Halves:
    """A model in memory."""

    tokenizer: WordPiece
    discriminator: SavedModel
    generator: SavedModel | None
    is_tied: bool  # the generator's body is the discriminator's

    def with_layers(self, chosen: list[int]) -> "Halves":
        """The model with some of its layers; a generator with a body of its own keeps all of its layers.

        chosen: numbers of the layers, from 0.
        """
        generator = self.generator
        if generator is not None and self.is_tied:
            generator = with_layers(generator, chosen)
        return Halves(self.tokenizer, with_layers(self.discriminator, chosen), generator, self.is_tied)

    def with_tokenizer(self, tokenizer: WordPiece) -> "Halves":
        """The model with another tokenizer, and with word embeddings for its pieces as `transplant` derives them."""
        found, size = transplant(self.tokenizer, tokenizer), self.tokenizer.size
        halves = [
            None if half is None else with_vocabulary(half, found, old_size=size)
            for half in (self.discriminator, self.generator)
        ]
        assert halves[0] is not None
        return Halves(tokenizer, halves[0], halves[1], self.is_tied)


def read_halves(name: str) -> Halves:
    """Read the discriminator of a folder or hub name, and the generator beside it if there is one."""
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
    """Write one plain folder, or one for each half."""
    if model.generator is None:
        with replaced_model(out_dir) as folder:
            write_saved(model.discriminator, model.tokenizer, folder)
        remove_halves(out_dir)
        return
    with replaced_folder(out_dir, last=HALVES[0], gone=PLAIN) as folder:
        for name, half in zip(HALVES, (model.discriminator, model.generator), strict=True):
            write_saved(half, model.tokenizer, folder / name)


def remove_halves(out_dir: Path) -> None:
    """Remove what would be read before the plain model in this folder."""
    for name in HALVES:
        if (out_dir / name / CONFIG).is_file():
            shutil.rmtree(out_dir / name)


def check_no_model(out_dir: Path, *, overwrite: bool) -> None:
    """Raise ValueError if the folder holds a model or a tokenizer and `overwrite` is false."""
    if overwrite:
        return
    if any((out_dir / name / CONFIG).exists() for name in ("", *HALVES)):
        raise ValueError(f"{out_dir} holds a model already: add --overwrite, or give another folder.")
    if kind_of(out_dir) == TOKENIZER_KIND:
        raise ValueError(
            f"{out_dir} holds a tokenizer, which the model would replace: add --overwrite, or give another folder."
        )


def count(saved: SavedModel) -> int:
    """Number of parameters of an encoder, without heads."""
    return sum(tensor.numel() for name, tensor in saved.weights.items() if is_encoder(name))
