"""Generator, sampling, discriminator and the two losses (Clark et al. 2020, section 3).

The embeddings are one module of the whole model, so they cannot come untied.

Legend: B rows, T pieces a row, K masked positions a row, D width, E embedding width, V vocabulary.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spacy_electra.data.batch import Rows
from spacy_electra.data.batches.masking import Masked, Positions
from spacy_electra.data.rng import Purpose, random_uniform
from spacy_electra.model.isolation import building
from spacy_electra.model.network.attention import Attend, AttentionKernel, RowAttention, trainable, within_segments
from spacy_electra.model.network.dropout import NO_DROPOUT, Dropout
from spacy_electra.model.network.encoder import Body, Embeddings, Encoder, EncoderShape
from spacy_electra.model.network.heads import MaskedLMHead, ReplacedTokenHead
from spacy_electra.model.network.sampling import CrossEntropy, at_least_float32, draw


@dataclass(frozen=True)
class Corrupted:
    """The input of the discriminator and its targets."""

    ids: Tensor  # (B, T) pieces, some replaced by the generator's samples
    is_replaced: Tensor  # (B, T) true where the piece differs from the original


@dataclass(frozen=True)
class GeneratorOutput:
    """Predictions and losses of the generator at the masked positions."""

    loss: Tensor  # () float32, sum of the cross-entropies
    count: Tensor  # () float32, how many positions counted
    samples: Tensor  # (B, K) int64 one piece drawn for each position
    logits: Tensor  # (B, K, V) scores, without gradient
    original: Tensor  # (B, K) int64 the pieces that stood there
    weight: Tensor  # (B, K) float32, 0 where a position only fills the batch

    @property
    def correct(self) -> Tensor:
        """() float32, number of correct best predictions. Computed only when read, which training does not do."""
        return ((self.logits.argmax(dim=-1) == self.original) * self.weight).sum()


@dataclass(frozen=True)
class DiscriminatorOutput:
    """Logits and loss of the discriminator."""

    loss: Tensor  # () float32, sum of the binary cross-entropies over real positions
    count: Tensor  # () float32, how many real positions
    logits: Tensor  # (B, T) float32, above 0 means "replaced"


@dataclass(frozen=True)
class Output:
    """One forward pass: sums, not means, so that micro-batches and ranks can divide by global counts."""

    generator: GeneratorOutput
    discriminator: DiscriminatorOutput | None  # None for the masked-language-model objective
    corrupted: Corrupted | None
    qkv: Tensor | None = None  # (B, T, 3 x D) of the layer that a teacher's relations are compared with
    teacher_loss: Tensor | None = None  # () sum of the divergences from the teacher's relations, over real positions


def corrupt(ids: Tensor, positions: Positions, samples: Tensor) -> Corrupted:
    """Put the samples (B, K) into the original ids (B, T).

    A sample that equals the original is not labelled as replaced (section 3.1).
    """
    original = ids.gather(1, positions.index)
    put = torch.where(positions.weight > 0, samples, original)
    corrupted = ids.scatter(1, positions.index, put)
    return Corrupted(ids=corrupted, is_replaced=corrupted != ids)


def generator_output(
    head: MaskedLMHead, hidden: Tensor, words: Tensor, masked: Masked, keys: Tensor, vocab_size: int
) -> GeneratorOutput:
    """Predict, compute the loss and sample at the masked positions.

    head: scores the hidden states.
    hidden: (B, T, D), gathered before the head.
    words: (V, E) output embeddings.
    keys: (B,) int64, of the samples.
    vocab_size: only the first `vocab_size` pieces are sampled; the rest is padding.
    """
    index = masked.positions.index
    weight = masked.positions.weight
    chosen = hidden.gather(1, index[:, :, None].expand(-1, -1, hidden.shape[-1]))
    logits = head(chosen.flatten(0, 1), words)
    losses, probabilities = CrossEntropy.apply(logits, masked.original.reshape(-1))
    chance = random_uniform(keys, Purpose.SAMPLE, index.shape[1]).reshape(-1)
    samples = draw(probabilities, chance=chance, size=vocab_size)
    return GeneratorOutput(
        loss=(losses * weight.reshape(-1)).sum(),
        count=weight.sum(),
        samples=samples.view_as(index),
        logits=logits.detach().view(*index.shape, -1),
        original=masked.original,
        weight=weight,
    )


def discriminator_output(logits: Tensor, corrupted: Corrupted, is_real: Tensor) -> DiscriminatorOutput:
    """Binary cross-entropy of logits (B, T) over real positions, [CLS] and [SEP] included."""
    logits = at_least_float32(logits)
    weight = is_real.to(logits.dtype)
    losses = F.binary_cross_entropy_with_logits(logits, corrupted.is_replaced.to(logits.dtype), reduction="none")
    return DiscriminatorOutput(loss=(losses * weight).sum(), count=weight.sum(), logits=logits)


def run_body(
    body: Body, embedded: Tensor, attend: Attend, drop: Dropout, qkv_layer: int | None
) -> tuple[Tensor, Tensor | None]:
    """(B, T, E) embedded pieces -> (B, T, D) hidden states, and queries, keys and values (B, T, 3 x D) of a block.

    The projection of that block is computed a second time, so that blocks return only hidden states.

    qkv_layer: number of the block; None for none.
    """
    if qkv_layer is None:
        return body(embedded, attend, drop), None
    x = body.run_blocks(body.project(embedded), attend, drop, end=qkv_layer)
    qkv = body.qkv(x, qkv_layer)
    return body.run_blocks(x, attend, drop, first=qkv_layer), qkv


class Electra(nn.Module):
    """Generator and discriminator with shared embeddings, each with a body of its own or both with the same."""

    def __init__(self, *, generator: EncoderShape | None, discriminator: EncoderShape):
        """generator: its shape; None ties all weights, so that the discriminator's body is the generator as well.

        The paper ties all weights if the sizes agree (section 3.2), and Google's code has the option. A tied body costs
        a second large pass. But the generator's loss keeps small bodies from the collapse that the discriminator's
        alone causes.
        """
        super().__init__()
        self.is_tied = generator is None
        self.detaches_output = False  # `output_embeddings` gives what it says
        generator = generator or discriminator
        same = ("embedding", "vocab", "positions", "types")
        if different := [name for name in same if getattr(generator, name) != getattr(discriminator, name)]:
            raise ValueError(
                f"generator and discriminator share their embeddings, but differ in {', '.join(different)}: "
                f"give both shapes the same numbers there."
            )
        self.generator_shape = generator
        self.shape = discriminator
        self.embeddings = Embeddings(discriminator)
        if not self.is_tied:
            self.generator = Body(generator)
        self.masked_head = MaskedLMHead(generator)
        self.discriminator = Body(discriminator)
        self.replaced_head = ReplacedTokenHead(discriminator)

    @property
    def generator_name(self) -> str:
        """Name of the module that is the generator."""
        return "discriminator" if self.is_tied else "generator"

    def forward(
        self,
        rows: Rows,
        masked: Masked,
        *,
        vocab_size: int,
        drop: tuple[Dropout, Dropout] = (NO_DROPOUT, NO_DROPOUT),
        kernel: AttentionKernel = trainable,
        samples: Tensor | None = None,
        qkv_layer: int | None = None,
    ) -> Output:
        """Run generator and discriminator on a batch.

        kernel: attention kernel.
        samples: (B, K) ids in place of the generator's own samples.
        qkv_layer: the block of the discriminator whose queries, keys and values are returned as well.
        """
        attend = RowAttention(within_segments(rows.segments, is_one_segment=rows.is_one_segment), kernel)
        words = output_embeddings(self)
        embedded = self.embeddings(masked.ids, rows.positions, rows.types, drop[0])
        hidden = self.get_submodule(self.generator_name)(embedded, attend, drop[0])
        generator = generator_output(self.masked_head, hidden, words, masked, rows.keys, vocab_size)
        corrupted = corrupt(rows.ids, masked.positions, generator.samples if samples is None else samples)
        embedded = self.embeddings(corrupted.ids, rows.positions, rows.types, drop[1])
        hidden, qkv = run_body(self.discriminator, embedded, attend, drop[1], qkv_layer)
        discriminator = discriminator_output(self.replaced_head(hidden), corrupted, rows.is_real)
        return Output(generator=generator, discriminator=discriminator, corrupted=corrupted, qkv=qkv)


class MaskedLanguageModel(nn.Module):
    """The other objective: one encoder of the discriminator's shape predicts the masked pieces."""

    def __init__(self, shape: EncoderShape):
        super().__init__()
        self.shape = shape
        self.detaches_output = False
        self.embeddings = Embeddings(shape)
        self.discriminator = Body(shape)
        self.masked_head = MaskedLMHead(shape)

    def forward(
        self,
        rows: Rows,
        masked: Masked,
        *,
        vocab_size: int,
        drop: tuple[Dropout, Dropout] = (NO_DROPOUT, NO_DROPOUT),
        kernel: AttentionKernel = trainable,
        samples: Tensor | None = None,
        qkv_layer: int | None = None,
    ) -> Output:
        """Run the encoder on a batch.

        samples: not used.
        The other arguments are those of `Electra.forward`.
        """
        embedded = self.embeddings(masked.ids, rows.positions, rows.types, drop[1])
        attend = RowAttention(within_segments(rows.segments, is_one_segment=rows.is_one_segment), kernel)
        hidden, qkv = run_body(self.discriminator, embedded, attend, drop[1], qkv_layer)
        generator = generator_output(self.masked_head, hidden, output_embeddings(self), masked, rows.keys, vocab_size)
        return Output(generator=generator, discriminator=None, corrupted=None, qkv=qkv)


def output_embeddings(model: Electra | MaskedLanguageModel) -> Tensor:
    """(V, E) output embeddings: the word embeddings, detached if the model is set so.

    With a gradient, every piece that is not the target moves away from the hidden states, in a direction that all rare
    pieces share (Gao et al. 2019, "Representation Degeneration Problem"), and Adam makes full steps of that.
    """
    words = model.embeddings.word.weight
    return words.detach() if model.detaches_output else words


@building()
def encoder_of(model: Electra | MaskedLanguageModel) -> Encoder:
    """The encoder of a pipeline: a copy of the embeddings and the discriminator's body."""
    encoder = Encoder(model.shape)
    encoder.embeddings.load_state_dict(model.embeddings.state_dict())
    encoder.body.load_state_dict(model.discriminator.state_dict())
    return encoder
