"""`spacy-electra.Electra.v1`: build the thinc model of pretraining from the numbers of a config."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, cast, get_args

import torch
from thinc.api import Model
from torch import Tensor

from spacy_electra.data.batch import Rows
from spacy_electra.data.batches.masking import Masked
from spacy_electra.data.batches.packing import MIN_WINDOW
from spacy_electra.data.tokenizer.wordpiece import WordPiece
from spacy_electra.model.inference.backend import attention_for
from spacy_electra.model.init.pretrained import load_electra
from spacy_electra.model.init.schemes import Initialization, initialize
from spacy_electra.model.isolation import building
from spacy_electra.model.keys import check_keys
from spacy_electra.model.network.attention import AttentionKernel, trainable
from spacy_electra.model.network.dropout import NO_DROPOUT, KeyedDropout
from spacy_electra.model.network.electra import Electra, MaskedLanguageModel, Output
from spacy_electra.model.network.encoder import A_SIZE, LARGEST, Body, EncoderShape, is_size
from spacy_electra.model.precision import check_precision
from spacy_electra.model.shim import TorchShim
from spacy_electra.model.teacher import TeacherEncoder

ELECTRA = "spacy-electra.Electra.v1"  # the name of `build_electra` in configs
VOCAB_MULTIPLE = 64  # rows of a table that graphics cards multiply with fastest
HEADS = ("masked_head", "replaced_head")
NEVER = -1e4  # a score whose exponential is 0 beside any other, in half precision as well

Objective = Literal["electra", "mlm"]
Network = Electra | MaskedLanguageModel


@dataclass(frozen=True)
class Batch:
    """The input of one forward pass."""

    rows: Rows
    masked: Masked
    teacher: TeacherEncoder | None = None  # whose relations the discriminator's are compared with, in training


@dataclass(frozen=True)
class LossWeights:
    """Factors of the summed losses in the training loss: weight over global count."""

    generator: Tensor  # () float32, on the model's device, as is the other: nothing waits for the device
    discriminator: Tensor
    teacher: Tensor | None = None  # where the batch has a teacher


Inputs = tuple[Batch, int, float, AttentionKernel]  # of the network: batch, pieces of the tokenizer, dropout, kernel


class Pretrainer(Model[Batch, Any]):  # returns `Output` and takes `LossWeights` back; thinc's types have one for both
    """The thinc model that pretraining runs: one torch module in a shim."""

    __slots__ = ()

    @property
    def shim(self) -> TorchShim:
        """The shim, which runs and updates the network."""
        return cast(TorchShim, self.shims[0])

    @property
    def network(self) -> Network:
        """The torch module."""
        return cast(Network, self.shim.module)

    def _copy(self, seen: dict[int, Any] | None = None) -> "Pretrainer":
        copied = super()._copy(seen)
        copied.__class__ = Pretrainer  # thinc makes a plain Model
        return copied


@building()
def build_electra(
    *,
    objective: Objective,
    tokenizer: str,
    window: int,
    discriminator: dict[str, int],
    generator: dict[str, int] | None = None,
    initialization: Initialization = "local",
    init: str | None = None,
    init_layers: list[int] | None = None,
    precision: str = "auto",
    dropout: float = 0.0,
    activation_checkpointing: bool = False,
    detach_output_embeddings: bool = False,
    seed: int = 0,
) -> Pretrainer:
    """Build the pretraining model.

    objective: "electra", or "mlm" for a masked language model of the discriminator's shape.
    tokenizer: directory of the vocabulary.
    window: pieces a row, and number of trained positions.
    discriminator, generator: layers, width, feed_forward, heads, and for the discriminator the width of the shared
        embedding. Without a generator the discriminator's body is the generator as well (all weights tied).
    initialization: scheme of the initial weights, as in `schemes.initialize`.
    init: start from these weights: a run's model folder, a Hugging Face directory or a hub name.
    init_layers: numbers of the layers of `init` to use.
    precision: "auto", "fp32", "bf16" or "fp16".
    dropout: rate in all layers.
    activation_checkpointing: keep only the input of each block for the backward pass and compute the rest again (Chen
        et al. 2016): a third more time, a fraction of the memory.
    detach_output_embeddings: compute masked-LM logits without a gradient to the word embeddings, so that pieces that
        the text lacks keep their vectors.
    seed: of the initial weights.
    Raises ValueError for shapes that do not fit, misspelt keys, and weights of another width.
    """
    pieces = WordPiece.load(Path(tokenizer))
    shapes = check_model(
        objective=objective,
        window=window,
        discriminator=discriminator,
        generator=generator,
        initialization=initialization,
        precision=precision,
        dropout=dropout,
        vocab_size=pieces.size,
    )
    big, small = shapes.discriminator, shapes.generator
    network: Network
    network = Electra(generator=small, discriminator=big) if objective == "electra" else MaskedLanguageModel(big)
    initialize(network, kind=initialization, seed=seed)
    fresh = list(HEADS)
    if init is None and init_layers is not None:
        raise ValueError(
            f"[model] init_layers is {init_layers}, but there is no init to take layers of: set paths.init, or "
            f"init_layers to null."
        )
    if init is not None:
        fresh = load_electra(init, network, tokenizer=pieces, layers=init_layers)
        check_window(window, network.shape)
    silence_padding(network, pieces.size)
    network.detaches_output = detach_output_embeddings
    for body in (module for module in network.modules() if isinstance(module, Body)):
        body.is_recomputed = activation_checkpointing
    model = wrap_network(network, window=window, vocab_size=pieces.size, dropout=dropout, precision=precision)
    model.attrs["fresh"] = fresh
    return model


@dataclass(frozen=True)
class HalfShapes:
    """The shapes of discriminator and generator."""

    discriminator: EncoderShape
    generator: EncoderShape | None  # None: the discriminator's body guesses as well


def check_model(
    *,
    objective: str,
    window: int,
    discriminator: dict[str, int],
    generator: dict[str, int] | None,
    initialization: str,
    precision: str,
    dropout: float,
    vocab_size: int,
) -> HalfShapes:
    """Check the arguments of `build_electra` without building anything; raises its ValueErrors."""
    _check_choice("objective", objective, get_args(Objective))
    _check_choice("initialization", initialization, get_args(Initialization))
    check_precision(precision)
    if window < MIN_WINDOW:
        raise ValueError(
            f"[model] window must be at least {MIN_WINDOW} pieces, but got {window}: no text fits in less."
        )
    if window > LARGEST:
        raise ValueError(f"[model] window must be at most {LARGEST:,} pieces, but got {window:,}.")
    if not 0.0 <= dropout < 1.0:
        raise ValueError(f"[model] dropout must be at least 0 and below 1, but got {dropout}.")
    vocab = padded(vocab_size)
    big = read_shape("discriminator", discriminator, vocab=vocab, positions=window)
    small = None
    if generator is not None:
        small = read_shape("generator", generator, vocab=vocab, positions=window, embedding=big.embedding)
    if initialization != "paper" and big.embedding % 2:
        raise ValueError(
            f"[model.discriminator] embedding must be even, but got {big.embedding}: positions start as pairs of sine "
            f'and cosine. Take {big.embedding + 1}, or set [model] initialization = "paper".'
        )
    return HalfShapes(discriminator=big, generator=small)


def padded(vocab: int) -> int:
    """The next multiple of VOCAB_MULTIPLE; exported models have the tokenizer's own size."""
    return -(-vocab // VOCAB_MULTIPLE) * VOCAB_MULTIPLE


def silence_padding(network: Network, vocab_size: int) -> None:
    """Set the biases of padded vocabulary entries so low that their probability and gradient are exactly 0."""
    with torch.no_grad():
        network.masked_head.bias[vocab_size:] = NEVER


def wrap_network(
    network: Network, *, window: int, vocab_size: int, dropout: float = 0.0, precision: str = "auto"
) -> Pretrainer:
    """Wrap a network as a thinc model.

    vocab_size: number of pieces of the tokenizer; only these are sampled.
    """
    shim = TorchShim(network, forward=_run, precision=precision)
    attrs = {"window": window, "dropout": dropout, "vocab_size": vocab_size}
    return Pretrainer("electra", _forward, shims=[shim], attrs=attrs)


def _check_choice(key: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"[model] {key} must be one of {', '.join(choices)}, but got {value!r}.")


def read_shape(
    part: str, numbers: Mapping[str, int], *, vocab: int, positions: int, embedding: int | None = None
) -> EncoderShape:
    """The shape in a config section `[model.part]`.

    embedding: its width, if the section does not have it.
    Raises ValueError for unknown and missing keys, and for values that are not whole numbers above 0.
    """
    given_elsewhere = {"vocab", "positions", "types"} | ({"embedding"} if embedding else set())
    keys = [f.name for f in fields(EncoderShape) if f.name not in given_elsewhere]
    check_keys(numbers, valid=keys, required=keys, where=f"[model.{part}]")
    for key, number in numbers.items():
        if not is_size(number):
            raise ValueError(f"[model.{part}] {key} must be {A_SIZE}, but got {number!r:.40}.")
    if embedding:
        numbers = {**numbers, "embedding": embedding}
    return EncoderShape(vocab=vocab, positions=positions, **numbers)


def check_window(window: int, shape: EncoderShape) -> None:
    """Raise ValueError if rows are longer than the number of positions of the weights."""
    if window > shape.positions:
        raise ValueError(
            f"window={window} is longer than the {shape.positions} positions of the weights: pieces behind them would "
            f"have no position. Set model.window to {shape.positions} or less."
        )


def _run(network: Network, inputs: Inputs) -> Output:
    batch, vocab_size, dropout, kernel = inputs
    keys = batch.rows.keys
    drop = tuple(KeyedDropout(dropout, keys, number) if dropout else NO_DROPOUT for number in (0, 1))
    layer = None if batch.teacher is None else batch.teacher.student_layer
    output: Output = network(batch.rows, batch.masked, vocab_size=vocab_size, drop=drop, kernel=kernel, qkv_layer=layer)
    return output


def _forward(model: Pretrainer, batch: Batch, is_train: bool) -> tuple[Output, Callable[[LossWeights], None]]:
    """One pass over a batch; the callback takes what each sum of losses counts for."""
    shim, vocab_size = model.shim, model.attrs["vocab_size"]
    if not is_train:
        kernel = attention_for(shim.device, shim.choice.prediction.dtype)
        return shim.predict((replace(batch, teacher=None), vocab_size, 0.0, kernel)), _no_backprop
    output, backprop = shim.begin_update((batch, vocab_size, model.attrs["dropout"], trainable))
    if batch.teacher is not None:
        output = _taught(output, batch, batch.teacher, dtype=shim.choice.training)

    def backprop_losses(weights: LossWeights) -> None:
        roots, gradients = [output.generator.loss], [weights.generator]
        if output.discriminator is not None:
            roots.append(output.discriminator.loss)
            gradients.append(weights.discriminator)
        if output.teacher_loss is not None:
            assert weights.teacher is not None
            roots.append(output.teacher_loss)
            gradients.append(weights.teacher)
        backprop(roots, gradients)

    return output, backprop_losses


def _taught(output: Output, batch: Batch, teacher: TeacherEncoder, *, dtype: torch.dtype) -> Output:
    """The output with the loss of the teacher, whose input is that of the discriminator."""
    assert output.qkv is not None
    ids = batch.masked.ids if output.corrupted is None else output.corrupted.ids
    return replace(output, qkv=None, teacher_loss=teacher.loss(output.qkv, ids, batch.rows, dtype=dtype))


def _no_backprop(weights: LossWeights) -> None:
    raise ValueError("a prediction keeps no gradients: use begin_update to backpropagate.")
