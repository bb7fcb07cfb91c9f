"""The pretraining heads: masked-LM logits, and replaced-token logits.

Legend: B rows, T pieces a row, D width, E embedding width, V vocabulary.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spacy_electra.model.network.encoder import NORM_EPS, EncoderShape


class MaskedLMHead(nn.Module):
    """Width -> embedding width, GELU, norm; then logits against the shared word embeddings."""

    def __init__(self, shape: EncoderShape):
        super().__init__()
        self.dense = nn.Linear(shape.width, shape.embedding, dtype=torch.float32)
        self.norm = nn.LayerNorm(shape.embedding, eps=NORM_EPS, dtype=torch.float32)
        self.bias = nn.Parameter(torch.zeros(shape.vocab, dtype=torch.float32, device=self.dense.weight.device))

    def forward(self, x: Tensor, words: Tensor) -> Tensor:
        """(…, D) hidden states and (V, E) word embeddings -> (…, V) logits."""
        return F.linear(self.norm(F.gelu(self.dense(x))), words, self.bias)


class ReplacedTokenHead(nn.Module):
    """One logit a piece: above 0 means "replaced"."""

    def __init__(self, shape: EncoderShape):
        super().__init__()
        self.dense = nn.Linear(shape.width, shape.width, dtype=torch.float32)
        self.score = nn.Linear(shape.width, 1, dtype=torch.float32)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) -> (B, T)."""
        score: Tensor = self.score(F.gelu(self.dense(x)))
        return score.squeeze(-1)
