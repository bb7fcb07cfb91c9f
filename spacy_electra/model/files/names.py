"""Map the config keys and parameter names of Hugging Face's ELECTRA to ours. Tables that are read in both directions.

Hugging Face has separate query, key and value matrices; ours are one matrix, in this order. Its
`generator_lm_head.weight` is the word embedding and has no name of its own here.

Source: `transformers/models/electra/modeling_electra.py` and `configuration_electra.py`.
"""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from spacy_electra.model.files.families import FAMILIES, family_of
from spacy_electra.model.network.encoder import A_SIZE, NORM_EPS, EncoderShape, is_size

ParameterNames = dict[str, tuple[str, ...]]  # our parameter -> theirs, which stand below each other in ours

INT8_METHOD = "spacy-electra-int8"  # in config.json, of weights as `int8.compressed` makes them


def shape_of(config: Mapping[str, Any], *, source: str = "config.json") -> EncoderShape:
    """The shape of the encoder that a Hugging Face config describes.

    source: named in errors.
    Raises ValueError for a model of another family, or one that computes something else than `encoder.py`.
    """
    family = family_of(config, source)
    _check_plain(config, source)
    for key, ours in family.arithmetic.items():
        if config.get(key, ours) != ours:
            raise ValueError(f"{source}: {key} is {config[key]!r}, but this encoder computes with {ours!r} only.")
    numbers = {name: config.get(key, default) for name, (key, default) in family.keys.items()}
    for name, number in numbers.items():
        if not is_size(number):
            raise ValueError(f"{source}: {family.keys[name][0]} must be {A_SIZE}, but is {number!r:.40}.")
    try:
        return EncoderShape(**{"embedding": numbers["width"], **numbers, **family.fixed})
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from None


def _check_plain(config: Mapping[str, Any], source: str) -> None:
    """Raise ValueError where the model is computed by code of its own, or from numbers of another kind."""
    code = config.get("auto_map") or {}
    if not isinstance(code, Mapping):
        raise ValueError(f"{source}: auto_map must be an object, but is {code!r:.40}: copy or fetch the model again.")
    if own := {key: code[key] for key in code if key != "AutoTokenizer"}:
        raise ValueError(
            f"{source} has auto_map {own}: this model is computed by code of its own, which is never run here. Take an "
            f"ELECTRA of the transformers library; where the weights are those of one, remove auto_map from a copy."
        )
    if config.get("quantization_config") and not is_int8(config):
        raise ValueError(
            f"{source} has a quantization_config: its weights are no plain numbers. Take the model that was quantized."
        )


def is_int8(config: Mapping[str, Any]) -> bool:
    """Whether the weights beside a config.json are those of `int8.compressed`."""
    quantization = config.get("quantization_config")
    return isinstance(quantization, Mapping) and quantization.get("quant_method") == INT8_METHOD


def huggingface_config(shape: EncoderShape, *, architecture: str, pad: int) -> dict[str, Any]:
    """The config.json of an encoder.

    The dropout rates are those of fine-tuning (Clark et al. 2020, appendix B); they do not say how it was pretrained.

    architecture: Hugging Face's class name.
    pad: number of [PAD].
    """
    keys = FAMILIES["electra"].keys
    numbers = {keys[name][0]: number for name, number in asdict(shape).items()}
    return {
        "architectures": [architecture],
        "model_type": "electra",
        **numbers,
        "hidden_act": "gelu",
        "position_embedding_type": "absolute",
        "layer_norm_eps": NORM_EPS,
        "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1,
        "initializer_range": 0.02,
        "pad_token_id": pad,
        "tie_word_embeddings": True,
        "torch_dtype": "float32",
    }


def _parts(ours: str, *theirs: str) -> ParameterNames:
    """Weight and bias of one module."""
    return {f"{ours}.{part}": tuple(f"{name}.{part}" for name in theirs) for part in ("weight", "bias")}


def embedding_names() -> ParameterNames:
    """Names of the `Embeddings`, the attribute `embeddings` of a model."""
    tables = {"word": "word_embeddings", "position": "position_embeddings", "token_type": "token_type_embeddings"}
    names: ParameterNames = {
        f"embeddings.{ours}.weight": (f"embeddings.{theirs}.weight",) for ours, theirs in tables.items()
    }
    return names | _parts("embeddings.norm", "embeddings.LayerNorm")


def body_names(shape: EncoderShape, body: str) -> ParameterNames:
    """Names of the `Body` in the attribute `body` of a model."""
    names = _parts(f"{body}.project", "embeddings_project") if shape.embedding != shape.width else {}
    for number in range(shape.layers):
        ours, theirs = f"{body}.blocks.{number}", f"encoder.layer.{number}"
        attention = f"{theirs}.attention.self"
        names |= _parts(f"{ours}.attention.qkv", f"{attention}.query", f"{attention}.key", f"{attention}.value")
        names |= _parts(f"{ours}.attention.output", f"{theirs}.attention.output.dense")
        names |= _parts(f"{ours}.norm1", f"{theirs}.attention.output.LayerNorm")
        names |= _parts(f"{ours}.feed_forward.up", f"{theirs}.intermediate.dense")
        names |= _parts(f"{ours}.feed_forward.down", f"{theirs}.output.dense")
        names |= _parts(f"{ours}.norm2", f"{theirs}.output.LayerNorm")
    return names


def masked_head_names() -> ParameterNames:
    """Names of the `MaskedLMHead`, the attribute `masked_head` of a model."""
    names = _parts("masked_head.dense", "generator_predictions.dense")
    names |= _parts("masked_head.norm", "generator_predictions.LayerNorm")
    return names | {"masked_head.bias": ("generator_lm_head.bias",)}


def replaced_head_names() -> ParameterNames:
    """Names of the `ReplacedTokenHead`, the attribute `replaced_head` of a model."""
    names = _parts("replaced_head.dense", "discriminator_predictions.dense")
    return names | _parts("replaced_head.score", "discriminator_predictions.dense_prediction")


def is_encoder(name: str) -> bool:
    """Whether a weight, by its Hugging Face name without prefix, belongs to the encoder and not to a head."""
    return name.startswith(("embeddings.", "embeddings_project.", "encoder."))
