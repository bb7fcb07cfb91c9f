"""Read BERT and DistilBERT as ELECTRA encoders: takes their config and weights, returns those of ELECTRA.

All three compute the same: embeddings, norm, post-LayerNorm blocks. BERT and DistilBERT have no projection behind the
embeddings and no replaced-token head; DistilBERT has no token types.

Source: `transformers/models/{electra,bert,distilbert}/modeling_*.py` and `configuration_*.py`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from spacy_electra.model.network.encoder import NORM_EPS

# Our number of an encoder -> their key in config.json, and what stands for a key that is not there
_BERT_KEYS = {
    "layers": ("num_hidden_layers", 12),
    "width": ("hidden_size", 768),
    "feed_forward": ("intermediate_size", 3072),
    "heads": ("num_attention_heads", 12),
    "vocab": ("vocab_size", 30522),
    "positions": ("max_position_embeddings", 512),
    "types": ("type_vocab_size", 2),
}
_ELECTRA_KEYS = {
    **_BERT_KEYS,
    "width": ("hidden_size", 256),
    "feed_forward": ("intermediate_size", 1024),
    "heads": ("num_attention_heads", 4),
    "embedding": ("embedding_size", 128),
}
_DISTILBERT_KEYS = {
    "layers": ("n_layers", 6),
    "width": ("dim", 768),
    "feed_forward": ("hidden_dim", 3072),
    "heads": ("n_heads", 12),
    "vocab": ("vocab_size", 30522),
    "positions": ("max_position_embeddings", 512),
}
_ARITHMETIC = {
    "hidden_act": "gelu",
    "position_embedding_type": "absolute",
    "layer_norm_eps": NORM_EPS,
    "is_decoder": False,
}
NO_TYPES = 2  # rows of zeros where a family has no token types: as many as ELECTRA and BERT have
_TYPES = "embeddings.token_type_embeddings.weight"
_DECODER_BIAS = "cls.predictions.decoder.bias"
_WORDS = "embeddings.word_embeddings.weight"


@dataclass(frozen=True)
class Family:
    """The names that one `model_type` gives to the parts of the encoder."""

    title: str  # as its paper writes it
    classes: str  # what the names of its classes begin with
    prefix: str  # before the encoder's names, where a head stands beside it
    keys: Mapping[str, tuple[str, int]]  # our number -> key in config.json and its default
    arithmetic: Mapping[str, Any]  # what the encoder computes, by key in config.json; asking for another is refused
    renamed: tuple[tuple[str, str], ...] = ()  # patterns of its names, and what stands for them in ELECTRA's
    fixed: Mapping[str, int] = field(default_factory=dict)  # our numbers that its config does not hold

    def electra_weights(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The same tensors under ELECTRA's names, without prefix; unknown names are kept."""
        answer = {self._electra_name(name): tensor for name, tensor in weights.items()}
        if (bias := answer.pop(_DECODER_BIAS, None)) is not None:  # the same numbers once more
            answer.setdefault("generator_lm_head.bias", bias)
        if _TYPES not in answer and "types" in self.fixed and (words := answer.get(_WORDS)) is not None:
            answer[_TYPES] = words.new_zeros((self.fixed["types"], words.shape[-1]))
        return answer

    def _electra_name(self, name: str) -> str:
        name = name.removeprefix(self.prefix)
        # weights that were converted from TensorFlow
        name = re.sub(r"LayerNorm\.gamma$", "LayerNorm.weight", re.sub(r"LayerNorm\.beta$", "LayerNorm.bias", name))
        for theirs, ours in self.renamed:
            name = re.sub(f"^{theirs}", ours, name)
        return name


_BERT_HEAD = (
    (r"cls\.predictions\.transform\.dense", "generator_predictions.dense"),
    (r"cls\.predictions\.transform\.LayerNorm", "generator_predictions.LayerNorm"),
    (r"cls\.predictions\.bias", "generator_lm_head.bias"),
    (r"cls\.predictions\.decoder\.weight", "generator_lm_head.weight"),
)
_BLOCK = r"transformer\.layer\.(\d+)\."
_DISTILBERT_NAMES = (
    (rf"{_BLOCK}attention\.q_lin", r"encoder.layer.\1.attention.self.query"),
    (rf"{_BLOCK}attention\.k_lin", r"encoder.layer.\1.attention.self.key"),
    (rf"{_BLOCK}attention\.v_lin", r"encoder.layer.\1.attention.self.value"),
    (rf"{_BLOCK}attention\.out_lin", r"encoder.layer.\1.attention.output.dense"),
    (rf"{_BLOCK}sa_layer_norm", r"encoder.layer.\1.attention.output.LayerNorm"),
    (rf"{_BLOCK}ffn\.lin1", r"encoder.layer.\1.intermediate.dense"),
    (rf"{_BLOCK}ffn\.lin2", r"encoder.layer.\1.output.dense"),
    (rf"{_BLOCK}output_layer_norm", r"encoder.layer.\1.output.LayerNorm"),
    (r"vocab_transform", "generator_predictions.dense"),
    (r"vocab_layer_norm", "generator_predictions.LayerNorm"),
    (r"vocab_projector", "generator_lm_head"),
)
FAMILIES = {
    "electra": Family("ELECTRA", "Electra", "electra.", _ELECTRA_KEYS, _ARITHMETIC),
    "bert": Family("BERT", "Bert", "bert.", _BERT_KEYS, _ARITHMETIC, _BERT_HEAD),
    "distilbert": Family(
        "DistilBERT",
        "DistilBert",
        "distilbert.",
        _DISTILBERT_KEYS,
        {"activation": "gelu"},
        _DISTILBERT_NAMES,
        {"types": NO_TYPES},
    ),
}
READABLE = "ELECTRA, BERT or DistilBERT with a WordPiece vocabulary"


def family_of(config: Mapping[str, Any], source: str) -> Family:
    """The family of a config.json. Raises ValueError, naming `source`, for one that is not supported."""
    kind, architectures = config.get("model_type"), config.get("architectures") or []
    if not isinstance(kind, str | None) or not isinstance(architectures, list):
        raise ValueError(
            f"{source}: model_type must be a string and architectures a list, but they are {kind!r:.40} and "
            f"{architectures!r:.40}: copy or fetch the model again."
        )
    if kind is None:
        for family in FAMILIES.values():
            if any(str(name).startswith(family.classes) for name in architectures):
                return family
        raise ValueError(
            f"{source} has no model_type, and its architectures name no ELECTRA, BERT or DistilBERT: add "
            f'"model_type": "electra" to it if the weights are those of an ELECTRA ("bert", "distilbert" likewise), or '
            f"give the directory or the hub name of one."
        )
    if kind not in FAMILIES:
        raise ValueError(
            f"{source}: model_type is {kind!r}, which cannot be read: its encoder or its pieces differ. Give the "
            f"directory or the hub name of an {READABLE}."
        )
    return FAMILIES[kind]
