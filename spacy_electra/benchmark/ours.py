"""This package's pretraining step as `pretrain` runs it, and the same module and optimizer in a bare torch loop."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from spacy_electra.benchmark.shapes import (
    DISCRIMINATOR_WEIGHT,
    KEEP_RATE,
    LEARN_RATE,
    MASK_RATE,
    SPECIAL,
    Pair,
)
from spacy_electra.data.batch import Rows, Special
from spacy_electra.data.batches.masking import mask_rows
from spacy_electra.model.init.schemes import initialize
from spacy_electra.model.network.electra import Electra
from spacy_electra.model.optim.adamw import AdamW, Hyperparameters, adamw_v1, clip_gradients
from spacy_electra.model.optim.parameter_groups import parameter_groups
from spacy_electra.model.pretrainer import padded, silence_padding, wrap_network
from spacy_electra.training.compiling import compile_training
from spacy_electra.training.context import TrainContext
from spacy_electra.training.schema import Training
from spacy_electra.training.step import train_step

StepOnRows = Callable[[Rows], None]


def make_train_context(
    pair: Pair, *, dropout: float, precision: str, device: torch.device, special: Special = SPECIAL
) -> TrainContext:
    """A new model of fixed shapes with the paper's optimizer; its vocabulary is padded as by `build_electra`."""
    vocab = pair.discriminator.vocab
    big, small = (replace(shape, vocab=padded(vocab)) for shape in (pair.discriminator, pair.generator))
    network = Electra(generator=small, discriminator=big)
    initialize(network, kind="paper", seed=0)
    silence_padding(network, vocab)
    window = pair.discriminator.positions
    model = wrap_network(network, window=window, vocab_size=vocab, dropout=dropout, precision=precision)
    if device.type == "cuda":
        torch.cuda.set_device(device.index or 0)
        model.shim.to_device("gpu", device.index or 0)
    optimizer = adamw_v1(LEARN_RATE)
    return TrainContext(model=model, optimizer=optimizer, special=special, settings=_settings(optimizer))


def _settings(optimizer: Any) -> Training:
    return Training(
        max_steps=1,
        max_epochs=0,
        max_minutes=0,
        batch_rows=1,
        micro_batch_size=0,
        mask_rate=MASK_RATE,
        unmasked_fraction=KEEP_RATE,
        discriminator_weight=DISCRIMINATOR_WEIGHT,
        warmup=0,
        eval_frequency=1,
        dev_rows=1,
        checkpoint_minutes=1,
        keep_checkpoints=1,
        max_skipped_steps=20,
        max_unknown=1.0,
        on_divergence="stop",
        score_weights={},
        optimizer=optimizer,
        logger=None,
    )


def our_step(context: TrainContext) -> StepOnRows:
    """A function that takes one optimizer step on rows, through thinc."""
    return lambda rows: _discard(train_step(context, rows))


def compiled_step(context: TrainContext, *, on_plain: Callable[[], object]) -> StepOnRows:
    """The same step with compiled passes.

    on_plain: called after each step that ran eagerly because compiling had failed.
    """
    shim = context.model.shim
    compile_training(shim)

    def step(rows: Rows) -> None:
        train_step(context, rows)
        if shim.training_forward is None:
            on_plain()

    return step


def bare_step(context: TrainContext) -> StepOnRows:
    """The same step on the same network without thinc, to measure the overhead of the wrapper."""
    network, precision = context.model.network, context.model.shim.choice.training
    device, vocab_size = context.model.shim.device, context.model.attrs["vocab_size"]
    adamw, now = AdamW(parameter_groups(network)), Hyperparameters.of(context.optimizer)

    def step(rows: Rows) -> None:
        masked = mask_rows(rows, context.special, rate=MASK_RATE, unmasked_fraction=KEEP_RATE)
        with torch.autocast(device.type, dtype=precision, enabled=precision != torch.float32):
            output = network(rows, masked, vocab_size=vocab_size)
        generator, discriminator = output.generator, output.discriminator
        loss = generator.loss / generator.count + DISCRIMINATOR_WEIGHT * discriminator.loss / discriminator.count
        loss.backward()
        clip_gradients(adamw.parameters, now.grad_clip)
        adamw.step(now)
        network.zero_grad(set_to_none=True)

    return step


def _discard(_: object) -> None:
    """Ignore the sums of a step."""
