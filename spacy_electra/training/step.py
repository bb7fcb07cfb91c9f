"""One step of pretraining: micro-batches, losses of the whole step, gradients, optimizer."""

from dataclasses import replace

import torch
from torch import Tensor

from spacy_electra.data.batch import Rows
from spacy_electra.data.batches.masking import Masked, mask_rows
from spacy_electra.model.network.electra import Electra, Output
from spacy_electra.model.pretrainer import Batch, LossWeights
from spacy_electra.training.compiling import compiled_or_plain, forget_passes, keep_gradients
from spacy_electra.training.context import TrainContext
from spacy_electra.training.memory import (
    within_memory,
)
from spacy_electra.training.state import Sums


def train_step(context: TrainContext, rows: Rows, *, progress: float = 0.0) -> Sums:
    """Take one optimizer step on this rank's rows; returns the sums of the losses of all ranks' rows.

    The losses are means over the whole step, so micro-batches are weighted by the counts of the step, not by their own.
    After running out of memory, the same rows with the same masks are repeated in smaller micro-batches. If compiling
    fails, they are repeated eagerly.

    progress: share of the budget that is spent, which determines the weight of a teacher.
    """
    shim = context.model.shim
    masked = masked_rows(context, rows)
    chosen = masked.positions.weight.sum()
    real = rows.is_real.sum(dtype=torch.float32)
    chosen, real = context.ranks.add(torch.stack([chosen, real])).unbind()
    teacher_weight = context.distillation.weight_at(progress) if context.distillation else 0.0
    weights = LossWeights(
        generator=1.0 / chosen.clamp(min=1.0),
        discriminator=context.settings.discriminator_weight / real.clamp(min=1.0),
        teacher=teacher_weight / real.clamp(min=1.0),
    )
    batch = Batch(rows=rows, masked=masked, teacher=context.teacher if teacher_weight else None)
    losses = within_memory(
        context.micro_batch,
        lambda: compiled_or_plain(shim, lambda: _gather_gradients(context, batch, weights)),
        forget=lambda: forget_passes(shim),
    )
    context.model.finish_update(context.optimizer)
    counted = torch.cat([context.ranks.add(losses), torch.stack([chosen, real])])
    counted = torch.where(counted.isfinite().all(), counted, 0.0)  # a lost step is none
    guessed, judged, compared, chosen, real = counted.unbind()
    sums = Sums(generator=guessed, chosen=chosen)
    if isinstance(context.model.network, Electra):
        sums = replace(sums, discriminator=judged, judged=real)
    return replace(sums, teacher=compared, compared=real) if teacher_weight else sums


def _gather_gradients(context: TrainContext, batch: Batch, weights: LossWeights) -> Tensor:
    """Add up the gradients of the rows, a micro-batch at a time; (3,) the sums of the losses as `_losses` has them."""
    losses = torch.zeros(3, dtype=torch.float32, device=batch.rows.ids.device)
    size = context.micro_batch.rows or len(batch.rows)
    parts = list(zip(batch.rows.split(size), batch.masked.split(size), strict=True))
    for number, (rows, masked) in enumerate(parts):
        output, backprop = context.model.begin_update(replace(batch, rows=rows, masked=masked))
        backprop(weights)
        losses += _losses(output)
        if number == 0 and len(parts) > 1:
            keep_gradients(context.model.shim)
    return losses


def _losses(output: Output) -> Tensor:
    """(3,) the sums of the generator's, the discriminator's and the teacher's losses, without gradient."""
    guessed = output.generator.loss.detach()
    judged = torch.zeros_like(guessed) if output.discriminator is None else output.discriminator.loss.detach()
    compared = torch.zeros_like(guessed) if output.teacher_loss is None else output.teacher_loss.detach()
    return torch.stack([guessed, judged, compared])


def masked_rows(context: TrainContext, rows: Rows) -> Masked:
    """The rows with masked positions, as the config sets them."""
    settings = context.settings
    return mask_rows(rows, context.special, rate=settings.mask_rate, unmasked_fraction=settings.unmasked_fraction)
