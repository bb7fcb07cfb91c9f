"""The description that is saved with the weights of an encoder: its shape and its tokenizer."""

from dataclasses import asdict, fields
from typing import Any

from spacy_electra.data.tokenizer.wordpiece import WordPiece
from spacy_electra.model.files.parameter_shapes import check_weights
from spacy_electra.model.files.weights import SavedWeights
from spacy_electra.model.network.encoder import EncoderShape


def describe_encoder(shape: EncoderShape, tokenizer: WordPiece) -> dict[str, Any]:
    """Describe an encoder in JSON values, for `read_description`."""
    return {"shape": asdict(shape), "tokenizer": tokenizer.to_json()}


def read_description(saved: SavedWeights) -> tuple[EncoderShape, WordPiece]:
    """The shape and tokenizer of a saved encoder. Raises ValueError if one is missing or does not fit the weights."""
    assert saved.weights is not None
    numbers, tokenizer = saved.description.get("shape"), saved.description.get("tokenizer")
    names = [f.name for f in fields(EncoderShape)]
    if not isinstance(numbers, dict) or sorted(numbers) != sorted(names) or not isinstance(tokenizer, str):
        raise ValueError(f"their description lacks a tokenizer, or a shape of the numbers {', '.join(names)}")
    shape = EncoderShape(**numbers)
    check_weights(shape, saved.weights)
    pieces = WordPiece.from_json(tokenizer)
    if pieces.size > shape.vocab:
        raise ValueError(f"their tokenizer has {pieces.size} pieces, but there are vectors for {shape.vocab} only")
    return shape, pieces
