"""The reference program: ELECTRA pretraining as a good engineer would write it with Hugging Face's own modules.

Embeddings shared, masking by tensor operations, one draw for each chosen position, losses of the modules themselves,
fused optimizer, one clip over all gradients. It computes vocabulary scores at every position and attends eagerly
because the modules do.

Legend: B rows, T pieces a row, V vocabulary.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from transformers import ElectraConfig, ElectraForMaskedLM, ElectraForPreTraining

from spacy_electra.benchmark.shapes import DISCRIMINATOR_WEIGHT, KEEP_RATE, LEARN_RATE, MASK_RATE, SPECIAL, Pair
from spacy_electra.model.encoder import EncoderShape

IGNORED = -100  # label of a position without a loss


def config_of(shape: EncoderShape, *, dropout: float) -> ElectraConfig:
    return ElectraConfig(
        vocab_size=shape.vocab,
        embedding_size=shape.embedding,
        hidden_size=shape.width,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        intermediate_size=shape.feed_forward,
        max_position_embeddings=shape.positions,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
        pad_token_id=SPECIAL.pad,
    )


class Reference(nn.Module):
    """Generator and discriminator of the transformers library over one embeddings module."""

    def __init__(self, pair: Pair, *, dropout: float):
        super().__init__()
        self.generator = ElectraForMaskedLM(config_of(pair.generator, dropout=dropout))
        self.discriminator = ElectraForPreTraining(config_of(pair.discriminator, dropout=dropout))
        self.generator.electra.embeddings = self.discriminator.electra.embeddings
        self.generator.generator_lm_head.weight = self.discriminator.electra.embeddings.word_embeddings.weight

    def forward(self, ids: Tensor, is_real: Tensor) -> Tensor:
        """(B, T) pieces and where they are real -> the joint loss."""
        can_mask = is_real & (ids != SPECIAL.cls) & (ids != SPECIAL.sep)
        chance = torch.rand(ids.shape, device=ids.device)
        chosen = can_mask & (chance < MASK_RATE)
        masked = torch.where(chosen & (chance >= MASK_RATE * KEEP_RATE), SPECIAL.mask, ids)
        attention = is_real.long()
        labels = torch.where(chosen, ids, IGNORED)
        guesses = self.generator(masked, attention_mask=attention, labels=labels)
        with torch.no_grad():
            drawn = torch.multinomial(guesses.logits[chosen].float().softmax(dim=-1), 1).squeeze(1)
            corrupted = ids.masked_scatter(chosen, drawn)
        is_replaced = (corrupted != ids).long()
        verdicts = self.discriminator(corrupted, attention_mask=attention, labels=is_replaced)
        return guesses.loss + DISCRIMINATOR_WEIGHT * verdicts.loss


def reference_step(
    pair: Pair, *, dropout: float, precision: torch.dtype, device: torch.device, compiled: bool = False
) -> Callable[[Tensor, Tensor], None]:
    """A function that takes one optimizer step on (B, T) pieces and where they are real."""
    model = Reference(pair, dropout=dropout).to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARN_RATE, eps=1e-6, weight_decay=0.01, fused=True)
    forward = torch.compile(model) if compiled else model

    def step(ids: Tensor, is_real: Tensor) -> None:
        with torch.autocast(device.type, dtype=precision, enabled=precision != torch.float32):
            loss = forward(ids, is_real)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step
