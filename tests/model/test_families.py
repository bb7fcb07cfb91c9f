"""BERT and DistilBERT directories, as transformers writes them, become the same encoder."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForTokenClassification,
    BertModel,
    DistilBertConfig,
    DistilBertForMaskedLM,
    DistilBertModel,
)

from spacy_electra.data.tokenizer.wordpiece import WordPiece
from spacy_electra.model.files.huggingface import save_encoder
from spacy_electra.model.files.names import shape_of
from spacy_electra.model.init.pretrained import load_electra, load_encoder
from spacy_electra.model.network.attention import RowAttention, trainable
from spacy_electra.model.network.electra import Electra, MaskedLanguageModel
from spacy_electra.model.network.encoder import EncoderShape

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghij", "##a", "##b"]
SIZE = len(PIECES)
SHAPE = EncoderShape(layers=2, width=8, feed_forward=12, heads=2, embedding=8, vocab=SIZE, positions=10)
IDS = torch.tensor([[2, 5, 6, 7, 8, 3], [2, 9, 10, 16, 11, 3]])
BERT = BertConfig(
    vocab_size=SIZE,
    hidden_size=8,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=12,
    max_position_embeddings=10,
)
DISTILBERT = DistilBertConfig(
    vocab_size=SIZE, dim=8, n_layers=2, n_heads=2, hidden_dim=12, max_position_embeddings=10, tie_weights_=True
)
MASKED = {BertForMaskedLM: BERT, DistilBertForMaskedLM: DISTILBERT}
KINDS = {BertModel: BERT, BertForTokenClassification: BERT, DistilBertModel: DISTILBERT, **MASKED}


def saved(kind: Any, folder: Path, *, safe: bool = True) -> Any:
    """A directory that transformers wrote, of random weights with biases and norms that are not 0 and 1."""
    torch.manual_seed(5)
    model = kind(KINDS[kind]).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0.0, 0.5)
    model.save_pretrained(folder, safe_serialization=safe)
    (folder / "vocab.txt").write_text("\n".join(PIECES) + "\n", encoding="utf8")
    return model


def tokenizer(folder: Path) -> WordPiece:
    return WordPiece.load(folder)


@pytest.mark.parametrize("safe", [True, False], ids=["safetensors", "bin"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_encoder_gives_the_vectors_of_transformers(kind: Any, safe: bool, tmp_path: Path):
    theirs = saved(kind, tmp_path, safe=safe)
    encoder, pieces = load_encoder(str(tmp_path))
    assert encoder.shape == SHAPE
    assert pieces.size == SIZE
    with torch.no_grad():
        expected = theirs.base_model(IDS).last_hidden_state
        torch.testing.assert_close(encoder(IDS), expected, rtol=0, atol=1e-5)


def test_norms_under_the_names_of_tensorflow_are_read(tmp_path: Path):
    theirs = saved(BertModel, tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    old = {name.replace("LayerNorm.weight", "LayerNorm.gamma"): tensor for name, tensor in weights.items()}
    old = {name.replace("LayerNorm.bias", "LayerNorm.beta"): tensor for name, tensor in old.items()}
    assert old.keys() != weights.keys()
    save_file(old, tmp_path / "model.safetensors", metadata={"format": "pt"})
    encoder, _ = load_encoder(str(tmp_path))
    with torch.no_grad():
        torch.testing.assert_close(encoder(IDS), theirs(IDS).last_hidden_state, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", MASKED)
def test_a_masked_language_model_goes_on_with_its_head(kind: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    theirs = saved(kind, tmp_path)
    ours = MaskedLanguageModel(SHAPE)
    with caplog.at_level(logging.INFO, logger="spacy_electra"):
        assert load_electra(str(tmp_path), ours, tokenizer=tokenizer(tmp_path)) == []
    assert caplog.messages == []
    assert_guesses_alike(ours, theirs)


@pytest.mark.parametrize("kind", MASKED)
def test_tied_halves_take_the_masked_head_and_a_fresh_verdict(
    kind: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    theirs = saved(kind, tmp_path)
    ours = Electra(generator=None, discriminator=SHAPE)
    assert load_electra(str(tmp_path), ours, tokenizer=tokenizer(tmp_path)) == ["replaced_head"]
    assert [message.split()[-6:] for message in caplog.messages] == [
        ["replaced_head:", "it", "starts", "from", "fresh", "weights."]
    ]
    assert_guesses_alike(ours, theirs)


def assert_guesses_alike(ours: Any, theirs: Any) -> None:
    with torch.no_grad():
        embedded = ours.embeddings(IDS, torch.arange(6).expand_as(IDS), torch.zeros_like(IDS))
        hidden = ours.discriminator(embedded, RowAttention(None, trainable))
        guesses = ours.masked_head(hidden, ours.embeddings.word.weight)
        torch.testing.assert_close(guesses, theirs(IDS).logits, rtol=0, atol=1e-5)


def test_an_encoder_alone_leaves_both_heads_fresh(tmp_path: Path):
    saved(BertModel, tmp_path)
    ours = Electra(generator=None, discriminator=SHAPE)
    assert load_electra(str(tmp_path), ours, tokenizer=tokenizer(tmp_path)) == ["replaced_head", "masked_head"]


def test_what_was_a_bert_is_written_as_an_electra_with_the_same_vectors(tmp_path: Path):
    saved(BertModel, tmp_path / "bert")
    encoder, pieces = load_encoder(str(tmp_path / "bert"))
    save_encoder(encoder, pieces, tmp_path / "electra")
    again, _ = load_encoder(str(tmp_path / "electra"))
    assert json.loads((tmp_path / "electra" / "config.json").read_text())["model_type"] == "electra"
    with torch.no_grad():
        assert torch.equal(again(IDS), encoder(IDS))


@pytest.mark.parametrize(
    ("config", "change", "complaint"),
    [
        (BERT, {"hidden_act": "relu"}, "hidden_act is 'relu', but this encoder computes with 'gelu'"),
        (BERT, {"is_decoder": True}, "is_decoder is True"),
        (BERT, {"position_embedding_type": "relative_key"}, "position_embedding_type is 'relative_key'"),
        (DISTILBERT, {"activation": "relu"}, "activation is 'relu', but this encoder computes with 'gelu'"),
        (DISTILBERT, {"dim": 0}, "dim must be a whole number"),
        (DISTILBERT, {"n_heads": 3}, "width must be a multiple of heads"),
    ],
)
def test_what_would_be_computed_otherwise_is_refused(config: Any, change: dict[str, Any], complaint: str):
    with pytest.raises(ValueError, match=complaint):
        shape_of(config.to_dict() | change)


@pytest.mark.parametrize(("config", "shape"), [(BertConfig(), 768), (DistilBertConfig(), 768)])
def test_keys_that_a_config_lacks_have_the_familys_defaults(config: Any, shape: int):
    assert shape_of({"model_type": config.model_type}) == shape_of(config.to_dict())
    assert shape_of({"model_type": config.model_type}).embedding == shape


@pytest.mark.parametrize("kind", [BertModel, DistilBertModel])
def test_a_config_without_model_type_is_read_by_its_architecture(kind: Any):
    config = KINDS[kind].to_dict()
    del config["model_type"]
    assert shape_of(config | {"architectures": [kind.__name__]}) == SHAPE


def test_a_bias_under_the_decoders_name_alone_is_taken(tmp_path: Path):
    theirs = saved(BertForMaskedLM, tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    weights["cls.predictions.decoder.bias"] = weights.pop("cls.predictions.bias")
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    ours = MaskedLanguageModel(SHAPE)
    load_electra(str(tmp_path), ours, tokenizer=tokenizer(tmp_path))
    assert_guesses_alike(ours, theirs)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"model_type": ["bert"]}, "model_type must be a string"),
        ({"architectures": 5}, "architectures a list"),
        ({"auto_map": "x"}, "auto_map must be an object"),
    ],
)
def test_a_config_of_other_types_is_one_message(change: dict[str, Any], complaint: str):
    with pytest.raises(ValueError, match=complaint):
        shape_of(BERT.to_dict() | change)
