"""Run an encoder over the windows of a batch. Takes a layout, gives one vector a piece, whatever computes them.

Legend: N pieces, D width.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from spacy_electra.model.attention import Block, Blocks, Padding, up_to
from spacy_electra.model.dropout import Dropout
from spacy_electra.model.encoder import Encoder
from spacy_electra.model.native import NativeEncoder, Windows
from spacy_electra.pipeline.layout import Group, Layout


@dataclass(frozen=True)
class EncoderInputs:
    """What one call reads."""

    layout: Layout
    drop: Dropout | None  # None for predictions


def encode(encoder: Encoder | NativeEncoder, inputs: EncoderInputs) -> Tensor:
    """One vector for each piece of all documents, (N, D) float32."""
    if isinstance(encoder, NativeEncoder):
        vectors: Tensor = encoder(_windows(inputs.layout))
        return vectors
    layout, device = inputs.layout, encoder.embeddings.word.weight.device
    uneven = [group for batch in layout.batches for group in batch.groups if not group.is_even]
    sent = [layout.ids, layout.positions, layout.source]
    sent += [part for group in uneven for part in (group.lengths, group.padded, group.filled)]
    parts = iter(torch.from_numpy(np.concatenate(sent)).to(device).split([len(part) for part in sent]))  # at once
    ids, positions, source = next(parts), next(parts), next(parts)
    slots = [encoder.embeddings.word.weight.new_zeros((0, encoder.shape.width))]
    begin = 0
    for batch in layout.batches:
        blocks = tuple(_block(group, parts) for group in batch.groups)
        which = slice(begin, begin + batch.slots)
        spare = batch.slots - sum(group.slots for group in batch.groups)
        mask = Blocks(blocks=blocks, spare=spare)
        slots.append(encoder(ids[which], positions=positions[which], mask=mask, drop=inputs.drop))
        begin += batch.slots
    return torch.cat(slots).index_select(0, source).float()


def _windows(layout: Layout) -> Windows:
    starts, lengths, begin = [], [], 0
    for batch in layout.batches:
        length = np.concatenate([group.lengths for group in batch.groups])
        starts.append(begin + np.cumsum(length) - length)
        lengths.append(length)
        begin += batch.slots
    places = np.full(len(layout.ids), -1)
    places[layout.source] = np.arange(len(layout.source))
    return Windows(
        ids=layout.ids,
        positions=layout.positions,
        places=places,
        starts=np.concatenate([layout.source[:0], *starts]),
        lengths=np.concatenate([layout.source[:0], *lengths]),
        rows=len(layout.source),
    )


def _block(group: Group, parts: Iterator[Tensor]) -> Block:
    """parts: what the groups that are not even need of themselves on the device, which is not asked for it."""
    padding = None
    if not group.is_even:
        lengths, padded, filled = next(parts), next(parts), next(parts)
        padding = Padding(mask=up_to(lengths, group.width), padded=padded, filled=filled)
    return Block(rows=len(group.lengths), width=group.width, pieces=group.slots, padding=padding)
