"""Checkpoints that others made: read as transformers reads them, or refused with what is wrong and what to do."""

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel, ElectraConfig, ElectraForMaskedLM, ElectraForPreTraining, ElectraModel

from spacy_electra.data.tokenizer.wordpiece import WordPiece
from spacy_electra.model.files.huggingface import (
    save_discriminator,
    save_encoder,
    save_generator,
)
from spacy_electra.model.files.int8 import compressed
from spacy_electra.model.files.names import INT8_METHOD
from spacy_electra.model.init.pretrained import load_electra, load_encoder
from spacy_electra.model.init.schemes import initialize
from spacy_electra.model.network.electra import Electra, MaskedLanguageModel
from spacy_electra.model.network.encoder import EncoderShape

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghij", "##a", "##b"]
NUMBERS = {"embedding_size": 8, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
NUMBERS |= {"intermediate_size": 12, "max_position_embeddings": 10}
SHAPE = EncoderShape(layers=2, width=16, feed_forward=12, heads=2, embedding=8, vocab=len(PIECES), positions=10)
NARROW = EncoderShape(layers=2, width=4, feed_forward=12, heads=2, embedding=8, vocab=len(PIECES), positions=10)
IDS = torch.tensor([[2, 5, 6, 7, 8, 3]])


def saved(folder: Path, kind: Any = ElectraModel, *, config: dict[str, Any] | None = None, **options: Any) -> Path:
    """A checkpoint that transformers wrote, with keys changed in its config; None removes one."""
    torch.manual_seed(0)
    kind(ElectraConfig(vocab_size=len(PIECES), **NUMBERS)).save_pretrained(folder, **options)
    (folder / "vocab.txt").write_text("\n".join(PIECES) + "\n", encoding="utf8")
    values = json.loads((folder / "config.json").read_text()) | (config or {})
    (folder / "config.json").write_text(json.dumps({key: value for key, value in values.items() if value is not None}))
    return folder


def assert_computes_as(theirs: ElectraModel, folder: Path) -> None:
    encoder, _ = load_encoder(str(folder))
    with torch.no_grad():
        torch.testing.assert_close(encoder(IDS), theirs.eval()(IDS).last_hidden_state, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", [ElectraModel, ElectraForPreTraining, ElectraForMaskedLM])
def test_a_config_without_model_type_is_read_where_its_architecture_is_an_electra(tmp_path: Path, kind: Any):
    folder = saved(tmp_path, kind, config={"model_type": None})
    assert_computes_as(ElectraModel.from_pretrained(folder), folder)


@pytest.mark.parametrize(
    ("config", "complaint"),
    [
        ({"model_type": None, "architectures": None}, 'has no model_type.* add "model_type": "electra"'),
        ({"model_type": None, "architectures": ["GPT2Model"]}, "has no model_type, and its architectures name no ELEC"),
        ({"auto_map": {"AutoModel": "own.Model"}}, "has auto_map .*own.Model.*code of its own"),
        ({"quantization_config": {"load_in_8bit": True}}, "has a quantization_config"),
    ],
)
def test_a_config_of_something_else_says_what_is_wrong(tmp_path: Path, config: dict[str, Any], complaint: str):
    with pytest.raises(ValueError, match=f"config.json {complaint}"):
        load_encoder(str(saved(tmp_path, config=config)))


def test_an_adapter_that_hugging_face_would_add_is_refused(tmp_path: Path):
    (saved(tmp_path) / "adapter_config.json").write_text("{}")
    with pytest.raises(ValueError, match=r"has an adapter_config.json: .*Merge it"):
        load_encoder(str(tmp_path))


@pytest.mark.parametrize("is_safe", [True, False], ids=["safetensors", "torch"])
def test_weights_in_several_files_are_read(tmp_path: Path, is_safe: bool):
    folder = saved(tmp_path, max_shard_size="2KB", safe_serialization=is_safe)
    assert len(list(folder.glob("*-of-*"))) > 2
    assert_computes_as(AutoModel.from_pretrained(folder), folder)


@pytest.mark.parametrize("is_safe", [True, False], ids=["safetensors", "torch"])
def test_missing_files_of_weights_are_named(tmp_path: Path, is_safe: bool):
    folder = saved(tmp_path, max_shard_size="2KB", safe_serialization=is_safe)
    missing = sorted(path.name for path in folder.glob("*-of-*"))[1]
    (folder / missing).unlink()
    with pytest.raises(FileNotFoundError, match=rf"lacks {missing}, 1 of the \d+ files that .*index.json names"):
        load_encoder(str(folder))


@pytest.mark.parametrize(
    ("index", "complaint"),
    [("{", "is no index"), ("{}", "is no index"), ('{"weight_map": {"a": "../b"}}', "names '../b'")],
)
def test_a_broken_index_of_weights_is_named(tmp_path: Path, index: str, complaint: str):
    folder = saved(tmp_path, max_shard_size="2KB")
    (folder / "model.safetensors.index.json").write_text(index)
    with pytest.raises(ValueError, match=f"model.safetensors.index.json {complaint}"):
        load_encoder(str(folder))


def test_one_file_of_weights_counts_more_than_several_as_in_transformers(tmp_path: Path):
    folder = saved(tmp_path, max_shard_size="2KB")
    whole = saved(tmp_path / "whole")
    shutil.copy(whole / "model.safetensors", folder)
    (folder / "model.safetensors.index.json").write_text("{")
    assert_computes_as(ElectraModel.from_pretrained(whole), folder)


def test_weights_of_another_library_are_named(tmp_path: Path):
    (saved(tmp_path) / "model.safetensors").rename(tmp_path / "tf_model.h5")
    with pytest.raises(FileNotFoundError, match=r"There is tf_model.h5, of another library"):
        load_encoder(str(tmp_path))


@pytest.mark.parametrize("is_safe", [True, False], ids=["safetensors", "torch"])
def test_several_files_of_weights_are_fetched_from_the_hub(
    tmp_path: Path, is_safe: bool, monkeypatch: pytest.MonkeyPatch
):
    remote, local = saved(tmp_path / "remote", max_shard_size="2KB", safe_serialization=is_safe), tmp_path / "local"
    (remote / "added_tokens.json").write_text('{"a": 5}')

    def fetch(name: str, *, allow_patterns: list[str]) -> str:
        local.mkdir(exist_ok=True)
        for file in allow_patterns:
            if (remote / file).exists():
                shutil.copy(remote / file, local / file)
        return str(local)

    monkeypatch.setattr("spacy_electra.model.files.hub.snapshot_download", fetch)
    _, tokenizer = load_encoder("somebody/electra")
    assert tokenizer.added == ("a",)
    assert {path.name for path in remote.glob("*-of-*")} == {path.name for path in local.glob("*-of-*")}


def test_added_tokens_without_embeddings_are_named(tmp_path: Path):
    (saved(tmp_path) / "added_tokens.json").write_text('{"[E1]": 17, "[E2]": 18}')
    with pytest.raises(ValueError, match=r"has 19 pieces, but .* for 17 only: there are none for '\[E1\]', '\[E2\]'"):
        load_encoder(str(tmp_path))


@pytest.fixture
def tokenizer(tmp_path: Path) -> WordPiece:
    (tmp_path / "vocab").mkdir()
    (tmp_path / "vocab" / "vocab.txt").write_text("\n".join(PIECES) + "\n", encoding="utf8")
    return WordPiece.load(tmp_path / "vocab")


def electra(generator: EncoderShape | None) -> Electra:
    model = Electra(generator=generator, discriminator=SHAPE)
    initialize(model, kind="paper", seed=0)
    return model


@pytest.mark.parametrize("shape", [NARROW, SHAPE, None], ids=["narrow", "as wide", "tied"])
def test_a_runs_generator_in_place_of_its_discriminator_is_told_with_the_right_folder(
    tokenizer: WordPiece, tmp_path: Path, caplog: pytest.LogCaptureFixture, shape: EncoderShape | None
):
    model = electra(shape)
    for place in ("generator", "discriminator"):
        (save_generator if place == "generator" else save_discriminator)(model, tokenizer, tmp_path / "run" / place)
    load_encoder(str(tmp_path / "run"))
    load_encoder(str(tmp_path / "run" / "discriminator"))
    assert not caplog.text
    load_encoder(str(tmp_path / "run" / "generator"))
    assert "run/generator is the generator of an ELECTRA" in caplog.text
    assert "run/discriminator instead" in caplog.text


def test_a_generator_is_told_by_its_width_whatever_its_name(
    tokenizer: WordPiece, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    save_generator(electra(NARROW), tokenizer, tmp_path / "model")
    encoder, _ = load_encoder(str(tmp_path / "model"))
    save_encoder(encoder, tokenizer, tmp_path / "exported")
    for name in ("model", "exported"):
        caplog.clear()
        load_encoder(str(tmp_path / name))
        assert "its width 4 is below the 8 of the embeddings" in caplog.text


def test_pretraining_from_a_generator_is_told(tokenizer: WordPiece, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    model = electra(SHAPE)
    save_generator(model, tokenizer, tmp_path / "small-generator")
    load_electra(str(tmp_path / "small-generator"), electra(SHAPE), tokenizer=tokenizer)
    assert "small-generator is the generator of an ELECTRA (it has a generator's head and name)" in caplog.text
    assert "small-discriminator instead" in caplog.text


def test_a_masked_language_model_is_no_generator(
    tokenizer: WordPiece, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    model = MaskedLanguageModel(SHAPE)
    save_discriminator(model, tokenizer, tmp_path / "run" / "discriminator")
    save_discriminator(model, tokenizer, tmp_path / "model")
    with caplog.at_level(logging.WARNING):
        for name in ("run", "run/discriminator", "model"):
            load_encoder(str(tmp_path / name))
    assert not caplog.text


def test_weights_in_bytes_are_read_as_they_were_rounded_and_transformers_refuses_them(tmp_path: Path):
    folder = saved(tmp_path)
    weights = load_file(folder / "model.safetensors")
    matrices = {name for name, tensor in weights.items() if tensor.dim() == 2}
    save_file(compressed(weights, linear=matrices), folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text()) | {"quantization_config": {"quant_method": INT8_METHOD}}
    (folder / "config.json").write_text(json.dumps(config))
    encoder, _ = load_encoder(str(folder))
    words = encoder.embeddings.word.weight
    exact = weights["embeddings.word_embeddings.weight"]
    assert 0 < (words - exact).abs().max() <= exact.abs().max() / 127 / 2 * 1.01
    with pytest.raises((ValueError, RuntimeError)):
        AutoModel.from_pretrained(folder)
