"""A pretrained encoder whose relations between pieces a student learns (MiniLMv2, Wang et al. 2021).

It has the input of the student, computes without gradients and is not part of a model: shims, optimizers, checkpoints
and exports do not contain it.

Legend: B rows, T pieces a row, D width.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from spacy_electra.data.batch import Rows
from spacy_electra.data.tokenizer.difference import cut_alike, difference
from spacy_electra.data.tokenizer.wordpiece import WordPiece
from spacy_electra.model.files.tensor_files import sum_of
from spacy_electra.model.inference.backend import attention_for
from spacy_electra.model.init.pretrained import load_encoder
from spacy_electra.model.isolation import isolated
from spacy_electra.model.network.attention import RowAttention, within_segments
from spacy_electra.model.network.encoder import Encoder, EncoderShape, nearest_divisor
from spacy_electra.model.relations import relation_loss


@dataclass(frozen=True, eq=False)
class TeacherEncoder:
    """A frozen encoder, and the layers and relation heads that are compared."""

    encoder: Encoder  # without the blocks above `layer`
    layer: int  # its block, and that of the student, both counted from 0
    student_layer: int
    relation_heads: int

    @property
    def fingerprint(self) -> str:
        """Hash of the weights."""
        return sum_of({name: tensor.cpu() for name, tensor in self.encoder.state_dict().items()})

    @isolated()
    def loss(self, qkv: Tensor, ids: Tensor, rows: Rows, *, dtype: torch.dtype) -> Tensor:
        """() the sum over real positions of the divergence between the relations of both, as in `relation_loss`.

        qkv: (B, T, 3 x D) queries, keys and values of the student's layer, with gradient.
        ids: (B, T) input of the student.
        rows: segments and positions of the ids.
        dtype: precision of the teacher's matrix multiplications.
        """
        with torch.no_grad():
            taught = self.qkv(ids, rows, dtype=dtype)
        mask = within_segments(rows.segments, is_one_segment=rows.is_one_segment)
        with torch.enable_grad():
            return relation_loss(qkv, taught, mask, rows.is_real, heads=self.relation_heads)

    def qkv(self, ids: Tensor, rows: Rows, *, dtype: torch.dtype) -> Tensor:
        """(B, T) pieces -> (B, T, 3 x D) queries, keys and values of the teacher's layer."""
        mask = within_segments(rows.segments, is_one_segment=rows.is_one_segment)
        attend = RowAttention(mask, attention_for(ids.device, dtype))
        body = self.encoder.body
        is_lower = dtype != torch.float32
        with torch.autocast(ids.device.type, dtype=dtype, enabled=is_lower, cache_enabled=False):
            x = body.project(self.encoder.embeddings(ids, rows.positions, rows.types))
            return body.qkv(body.run_blocks(x, attend, end=self.layer), self.layer)


def load_teacher(
    name: str,
    *,
    tokenizer: WordPiece,
    window: int,
    student: EncoderShape,
    layer: int | None,
    student_layer: int | None,
    relation_heads: int,
    device: torch.device,
) -> TeacherEncoder:
    """Load the encoder in a directory or of a hub name as a teacher of `student`.

    tokenizer, window: of the run.
    layer, student_layer: blocks counted from 0, None for the last one.
    relation_heads: number of parts into which the widths of both are split.
    device: where the teacher runs.
    Raises FileNotFoundError if there is no such encoder, ValueError if it has another vocabulary, too few positions or
    layers, or a width that cannot be split so.
    """
    encoder, pieces = load_encoder(name)
    shape = encoder.shape
    if not cut_alike(pieces, tokenizer):
        raise ValueError(
            f"the teacher {name} has another vocabulary than the tokenizer ({difference(pieces, tokenizer)}), so it "
            f"would read other text than its student. Set paths.tokenizer to it, and make the store with it: "
            f"tokenize --tokenizer {name} --overwrite."
        )
    if shape.positions < window:
        raise ValueError(
            f"the teacher {name} has {shape.positions} positions, but model.window is {window}: pieces behind them "
            f"would have no position. Set model.window to {shape.positions} or less."
        )
    _check_heads(relation_heads, teacher=shape.width, student=student.width)
    last = _layer("layer", layer, layers=shape.layers, whose=f"the teacher {name}")
    del encoder.body.blocks[last + 1 :]
    return TeacherEncoder(
        encoder=encoder.requires_grad_(False).to(device),
        layer=last,
        student_layer=_layer("student_layer", student_layer, layers=student.layers, whose="the student"),
        relation_heads=relation_heads,
    )


def _layer(key: str, number: int | None, *, layers: int, whose: str) -> int:
    if number is None:
        return layers - 1
    if not 0 <= number < layers:
        raise ValueError(
            f"[teacher] {key} must be from 0 to {layers - 1}, the layers of {whose}, or null for the last, "
            f"but got {number}."
        )
    return number


def _check_heads(heads: int, *, teacher: int, student: int) -> None:
    if teacher % heads or student % heads:
        raise ValueError(
            f"[teacher] relation_heads must divide the widths of both, {teacher} of the teacher and {student} of the "
            f"student, but got {heads}: every relation head takes an equal part. "
            f"Choose e.g. {nearest_divisor(math.gcd(teacher, student), heads)}."
        )
