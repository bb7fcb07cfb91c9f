"""Model shapes and rows of the benchmarks. Presets may change, these do not, so that results stay comparable.

Legend: B rows, T pieces a row.
"""

from dataclasses import dataclass, replace

import torch

from spacy_electra.data.batch import Rows, Special
from spacy_electra.data.batches.masking import chosen_per_row
from spacy_electra.data.rng import row_keys
from spacy_electra.model.network.encoder import EncoderShape

ROWS, WINDOW = 16, 128
MASK_RATE, KEEP_RATE = 0.15, 0.15
DISCRIMINATOR_WEIGHT = 50.0
LEARN_RATE = 5e-4
SPECIAL = Special(pad=0, unk=1, cls=2, sep=3, mask=4)
SHORTEST_DOCUMENT = 16  # pieces, of the documents that are padded


@dataclass(frozen=True)
class Pair:
    """The shapes of a discriminator and its generator."""

    discriminator: EncoderShape
    generator: EncoderShape

    @property
    def train_flops(self) -> float:
        """Floating-point operations per piece in the matrix products of a step: three times the forward pass."""
        big, small = self.discriminator, self.generator
        chosen = chosen_per_row(big.positions, MASK_RATE) / big.positions
        judged = big.width * big.width + big.width
        guessed = chosen * (small.width * small.embedding + small.embedding * small.vocab)
        return 3 * 2 * (_body(big) + _body(small) + judged + guessed)


def _body(shape: EncoderShape) -> float:
    """Multiply-adds per piece of an encoder's forward pass over full rows."""
    linear = 4 * shape.width**2 + 2 * shape.width * shape.feed_forward
    attention = 2 * shape.positions * shape.width
    project = shape.embedding * shape.width if shape.embedding != shape.width else 0
    return shape.layers * (linear + attention) + project


def _pair(
    *, layers: int, width: int, heads: int, vocab: int, embedding: int = 128, generator: int = 64, window: int = WINDOW
) -> Pair:
    """Shapes of equal depth and vocabulary.

    generator: width of the generator, which has one head for each 64.
    """
    shared = {"embedding": embedding, "vocab": vocab, "positions": window, "layers": layers}
    return Pair(
        discriminator=EncoderShape(width=width, feed_forward=4 * width, heads=heads, **shared),
        generator=EncoderShape(width=generator, feed_forward=4 * generator, heads=generator // 64, **shared),
    )


PAIRS = {
    "tiny": _pair(layers=4, width=128, heads=2, vocab=8000),
    "small": _pair(layers=12, width=256, heads=4, vocab=30522),
}
# Of the paper, for graphics cards
BASE = {"layers": 12, "width": 768, "heads": 12, "vocab": 30522, "embedding": 768, "generator": 256}
CARD_PAIRS = {"small": PAIRS["small"], "base": _pair(**BASE), "base 512": _pair(**BASE, window=512)}


def full_rows(vocab: int, *, first: int = 0, count: int = ROWS, window: int = WINDOW) -> Rows:
    """Rows of random pieces, each one segment without padding.

    first: number of the first row, and random seed.
    """
    random = torch.Generator().manual_seed(first)
    ids = torch.randint(max(SPECIAL.all) + 1, vocab, (count, window), generator=random)
    ids[:, 0], ids[:, -1] = SPECIAL.cls, SPECIAL.sep
    rows = _rows(ids, segments=torch.ones_like(ids), positions=torch.arange(window).expand_as(ids), first=first)
    return replace(rows, is_one_segment=True)


def short_documents(vocab: int, *, first: int = 0, count: int = ROWS) -> list[torch.Tensor]:
    """Documents of `SHORTEST_DOCUMENT` to `WINDOW` random pieces, [CLS] and [SEP] included.

    first: random seed.
    """
    random = torch.Generator().manual_seed(first)
    documents = []
    for length in torch.randint(SHORTEST_DOCUMENT, WINDOW + 1, (count,), generator=random).tolist():
        ids = torch.randint(max(SPECIAL.all) + 1, vocab, (length,), generator=random)
        ids[0], ids[-1] = SPECIAL.cls, SPECIAL.sep
        documents.append(ids)
    return documents


def padded_rows(documents: list[torch.Tensor], *, first: int = 0) -> Rows:
    """One document a row, padded to the longest.

    first: number of the first row.
    """
    ids = torch.nn.utils.rnn.pad_sequence(documents, batch_first=True, padding_value=SPECIAL.pad)
    place = torch.arange(ids.shape[1]).expand_as(ids)
    is_real = place < torch.tensor([len(one) for one in documents])[:, None]
    return _rows(ids, segments=is_real.long(), positions=place * is_real, first=first)


def packed_rows(documents: list[torch.Tensor], *, first: int = 0) -> Rows:
    """Documents one after another in rows of `WINDOW` pieces, split where a row ends, as `Packing` does.

    first: number of the first row.
    """
    pieces = torch.cat(documents)
    number = torch.cat([torch.full_like(one, n) for n, one in enumerate(documents)])
    rows = len(pieces) // WINDOW
    ids, number = pieces[: rows * WINDOW].view(rows, WINDOW), number[: rows * WINDOW].view(rows, WINDOW)
    segments = number - number[:, :1] + 1
    begins = torch.cat([torch.ones_like(ids[:, :1], dtype=torch.bool), segments[:, 1:] != segments[:, :-1]], dim=1)
    place = torch.arange(WINDOW).expand_as(ids)
    positions = place - torch.where(begins, place, 0).cummax(dim=1).values
    return _rows(ids, segments=segments, positions=positions, first=first)


def _rows(ids: torch.Tensor, *, segments: torch.Tensor, positions: torch.Tensor, first: int) -> Rows:
    row = torch.arange(first, first + len(ids))
    keys = row_keys(0, epoch=torch.zeros_like(row), row=row)
    return Rows(ids=ids, types=torch.zeros_like(ids), segments=segments, positions=positions, keys=keys)
