"""The reference program: an efficient ELECTRA pretraining step with the modules of Hugging Face's transformers.

Embeddings are shared, and masking does not synchronize with the device. Each chosen position has one sample. Full rows
have no attention mask. Losses are those of the modules, the optimizer is fused, and all gradients are clipped at once.

The modules compute vocabulary logits at every position. They use eager attention up to version 4 of transformers, and
torch's scaled_dot_product_attention from version 5 on; `ReferenceStep.facts` says which.

Legend: B rows, T pieces a row, K chosen positions a row, V vocabulary.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import ElectraConfig, ElectraForMaskedLM, ElectraForPreTraining

from spacy_electra.benchmark.shapes import DISCRIMINATOR_WEIGHT, KEEP_RATE, LEARN_RATE, MASK_RATE, SPECIAL, Pair
from spacy_electra.data.batch import Rows
from spacy_electra.data.batches.masking import Positions, chosen_per_row
from spacy_electra.model.network.encoder import EncoderShape
from spacy_electra.model.precision import PRECISIONS
from spacy_electra.training.memory import is_out_of_memory

IGNORED = -100  # label of a position without a loss


def reference_config(shape: EncoderShape, *, dropout: float) -> ElectraConfig:
    """Hugging Face's config for an encoder.

    dropout: rate for hidden states and attention weights.
    """
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
    """Hugging Face's generator and discriminator with shared embeddings."""

    def __init__(self, pair: Pair, *, dropout: float):
        super().__init__()
        self.generator = ElectraForMaskedLM(reference_config(pair.generator, dropout=dropout))
        self.discriminator = ElectraForPreTraining(reference_config(pair.discriminator, dropout=dropout))
        self.generator.electra.embeddings = self.discriminator.electra.embeddings
        self.generator.generator_lm_head.weight = self.discriminator.electra.embeddings.word_embeddings.weight
        for part in (self.generator, self.discriminator):
            part.config.pad_token_id = None  # or it looks for padding in rows without a mask, and waits for the device

    def forward(self, ids: Tensor, is_real: Tensor | None) -> Tensor:
        """() joint loss of generator and discriminator.

        ids: (B, T) pieces.
        is_real: (B, T) false for padding; None if there is no padding.
        """
        positions = reference_positions(ids, is_real)
        index, is_chosen = positions.index, positions.weight > 0
        original = ids.gather(1, index)
        hide = is_chosen & (torch.rand(index.shape, device=ids.device) >= KEEP_RATE)
        masked = ids.scatter(1, index, torch.where(hide, SPECIAL.mask, original))
        labels = torch.full_like(ids, IGNORED).scatter(1, index, torch.where(is_chosen, original, IGNORED))
        attention = None if is_real is None else is_real.long()
        guesses = self.generator(masked, attention_mask=attention, labels=labels)
        with torch.no_grad():
            drawn = draw_pieces(guesses.logits, index)
            corrupted = ids.scatter(1, index, torch.where(is_chosen, drawn, original))
        is_replaced = (corrupted != ids).long()
        if is_real is None:
            verdict_loss = self.discriminator(corrupted, labels=is_replaced).loss
        else:
            verdict_loss = loss_where(
                self.discriminator(corrupted, attention_mask=attention).logits, is_replaced, is_real
            )
        loss: Tensor = guesses.loss + DISCRIMINATOR_WEIGHT * verdict_loss
        return loss


def reference_positions(ids: Tensor, is_real: Tensor | None) -> Positions:
    """Pick distinct positions to mask, MASK_RATE of each row's candidates; index and weight (B, K).

    ids: (B, T) pieces.
    is_real: (B, T) false for padding; None if there is no padding.
    """
    can_mask = (ids != SPECIAL.cls) & (ids != SPECIAL.sep)
    if is_real is not None:
        can_mask = can_mask & is_real
    most = chosen_per_row(ids.shape[1], MASK_RATE)
    wanted = (can_mask.sum(dim=1, keepdim=True) * MASK_RATE + 0.5).long().clamp(min=1, max=most)
    lot = torch.where(can_mask, torch.rand(ids.shape, device=ids.device), 2.0)
    index = lot.topk(most, dim=1, largest=False).indices
    weight = (torch.arange(most, device=ids.device) < wanted) & can_mask.gather(1, index)
    return Positions(index=index, weight=weight.float())


def draw_pieces(logits: Tensor, index: Tensor) -> Tensor:
    """Sample pieces (B, K) from the generator's distributions.

    The distribution is that of `torch.multinomial`, without its checks, which synchronize with the device.

    logits: (B, T, V).
    index: (B, K) positions.
    """
    chosen = logits.gather(1, index[:, :, None].expand(-1, -1, logits.shape[2]))
    chances = chosen.float().softmax(dim=-1)
    return (chances / torch.empty_like(chances).exponential_()).argmax(dim=-1)


def loss_where(logits: Tensor, is_replaced: Tensor, is_real: Tensor) -> Tensor:
    """The loss of ElectraForPreTraining on padded rows.

    Its own code selects the real pieces, which synchronizes with the device.

    logits, is_replaced, is_real: (B, T).
    """
    losses = functional.binary_cross_entropy_with_logits(logits, is_replaced.float(), reduction="none")
    return (losses * is_real).sum() / is_real.sum()


class ReferenceStep:
    """Takes one optimizer step of the reference on rows. `facts` say how it runs."""

    def __init__(
        self,
        pair: Pair,
        *,
        dropout: float,
        precision: str,
        device: torch.device,
        compiled: bool = False,
        backend: str = "inductor",
    ):
        """dropout: rate for hidden states and attention weights.
        precision: a name in `PRECISIONS`.
        compiled: compile the model with torch.compile.
        backend: of torch.compile.
        """
        self.model = Reference(pair, dropout=dropout).to(device).train()
        self.facts = {"precision": precision, "attention": self.model.discriminator.config._attn_implementation}
        self._device, self._dtype, self._backend = device, PRECISIONS[precision], backend
        self._optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=LEARN_RATE, eps=1e-6, weight_decay=0.01, fused=True
        )
        self._forward: Callable[..., Tensor] = self.model
        self._can_fall_back = compiled
        if compiled:
            mode = "reduce-overhead" if device.type == "cuda" and backend == "inductor" else None
            self._forward = torch.compile(self.model, fullgraph=True, dynamic=False, mode=mode, backend=backend)
            self.facts["compiled"] = f"in one graph, mode {mode or 'default'}"

    def __call__(self, rows: Rows) -> None:
        self._compute_gradients(rows)
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)

    def _compute_gradients(self, rows: Rows) -> None:
        """Forward and backward pass. If compiling one graph fails, torch.compile's defaults are used from then on."""
        try:
            return self._passes(rows)
        except Exception as error:  # its traceback holds tensors, so nothing is done in here
            if not self._can_fall_back or is_out_of_memory(error):
                raise
            self.facts["compiled"] = f"as torch comes, since one graph failed with {type(error).__name__}"
        self._can_fall_back = False
        self._optimizer.zero_grad(set_to_none=True)
        self._forward = torch.compile(self.model, backend=self._backend)
        return self._passes(rows)

    def _passes(self, rows: Rows) -> None:
        if self._device.type == "cuda" and "compiled" in self.facts:
            torch.compiler.cudagraph_mark_step_begin()
        with torch.autocast(self._device.type, dtype=self._dtype, enabled=self._dtype != torch.float32):
            loss = self._forward(rows.ids, None if rows.is_one_segment else rows.is_real)
        loss.backward()
