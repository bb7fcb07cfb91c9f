"""Directories of Hugging Face's format, both ways: no key missing, none unexpected, every number where it belongs."""

import json
import logging
import shutil
from pathlib import Path
from typing import TypeVar

import huggingface_hub.constants
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import (
    AlbertConfig,
    AutoConfig,
    AutoModel,
    AutoTokenizer,
    DebertaV2Config,
    ElectraConfig,
    ElectraForMaskedLM,
    ElectraForPreTraining,
    ElectraForTokenClassification,
    ElectraModel,
    MobileBertConfig,
    RobertaConfig,
)

from spacy_electra.data.tokenizer.wordpiece import WordPiece
from spacy_electra.model.files.huggingface import (
    save_discriminator,
    save_encoder,
    save_generator,
)
from spacy_electra.model.files.names import huggingface_config, shape_of
from spacy_electra.model.init.pretrained import load_electra, load_encoder
from spacy_electra.model.network.attention import RowAttention, trainable
from spacy_electra.model.network.electra import Electra, MaskedLanguageModel, encoder_of
from spacy_electra.model.network.encoder import Encoder, EncoderShape

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghij", "##a", "##b"]
SIZE, PADDED = len(PIECES), 24
SHAPE = EncoderShape(layers=2, width=8, feed_forward=12, heads=2, embedding=6, vocab=PADDED, positions=10)
GENERATOR = EncoderShape(layers=3, width=4, feed_forward=5, heads=1, embedding=6, vocab=PADDED, positions=10)
IDS = torch.tensor([[2, 5, 6, 7, 8, 3], [2, 9, 10, 16, 11, 3]])
HUB_NAME = "google/electra-small-discriminator"
Module = TypeVar("Module", bound=nn.Module)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> WordPiece:
    folder = tmp_path_factory.mktemp("tokenizer")
    (folder / "vocab.txt").write_text("\n".join(PIECES) + "\n", encoding="utf8")
    return WordPiece.load(folder)


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The hub's client without a network, its cache in an empty folder."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def randomized(model: Module, seed: int = 0) -> Module:
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0.0, 0.5)
    return model


def electra(seed: int = 0) -> Electra:
    return randomized(Electra(generator=GENERATOR, discriminator=SHAPE), seed)


def save_run(model: Electra, tokenizer: WordPiece, folder: Path) -> str:
    save_discriminator(model, tokenizer, folder / "discriminator")
    save_generator(model, tokenizer, folder / "generator")
    return str(folder)


def agree(a: nn.Module, b: nn.Module) -> bool:
    """Equal names and values; the rows behind the tokenizer's size may differ."""
    one, two = a.state_dict(), b.state_dict()
    long = ("word.weight", "masked_head.bias")
    return one.keys() == two.keys() and all(
        torch.equal(one[n][:SIZE], two[n][:SIZE]) if n.endswith(long) else torch.equal(one[n], two[n]) for n in one
    )


def loaded_whole(theirs: type, folder: Path):
    model, told = theirs.from_pretrained(folder, output_loading_info=True)
    assert not any(told.values()), told
    return model.eval()


# ---- out


def test_the_discriminator_is_an_electra_for_pretraining_with_the_same_scores(tokenizer: WordPiece, tmp_path: Path):
    model = electra()
    save_discriminator(model, tokenizer, tmp_path)
    theirs = loaded_whole(ElectraForPreTraining, tmp_path)
    with torch.no_grad():
        expected = model.replaced_head(encoder_of(model)(IDS))
        torch.testing.assert_close(theirs(IDS).logits, expected, rtol=0, atol=1e-5)


def test_the_generator_is_an_electra_for_masked_lm_with_the_same_scores(tokenizer: WordPiece, tmp_path: Path):
    model = electra()
    save_generator(model, tokenizer, tmp_path)
    theirs = loaded_whole(ElectraForMaskedLM, tmp_path)
    with torch.no_grad():
        embedded = model.embeddings(IDS, torch.arange(6).expand_as(IDS), torch.zeros_like(IDS))
        expected = model.masked_head(
            model.generator(embedded, RowAttention(None, trainable)), model.embeddings.word.weight
        )[..., :SIZE]
        torch.testing.assert_close(theirs(IDS).logits, expected, rtol=0, atol=1e-5)
    assert theirs.generator_lm_head.weight is theirs.electra.embeddings.word_embeddings.weight


def test_the_masked_language_model_is_an_electra_for_masked_lm(tokenizer: WordPiece, tmp_path: Path):
    model = randomized(MaskedLanguageModel(SHAPE))
    save_discriminator(model, tokenizer, tmp_path)
    theirs = loaded_whole(ElectraForMaskedLM, tmp_path)
    with torch.no_grad():
        hidden = encoder_of(model)(IDS)
        expected = model.masked_head(hidden, model.embeddings.word.weight)[..., :SIZE]
        torch.testing.assert_close(theirs(IDS).logits, expected, rtol=0, atol=1e-5)


def test_an_encoder_is_an_electra_model(tokenizer: WordPiece, tmp_path: Path):
    encoder = randomized(Encoder(SHAPE))
    save_encoder(encoder, tokenizer, tmp_path)
    theirs = loaded_whole(ElectraModel, tmp_path)
    with torch.no_grad():
        torch.testing.assert_close(theirs(IDS).last_hidden_state, encoder(IDS), rtol=0, atol=1e-5)


def test_auto_model_and_a_task_head_find_the_discriminators_encoder(tokenizer: WordPiece, tmp_path: Path):
    save_discriminator(electra(), tokenizer, tmp_path)
    model, told = AutoModel.from_pretrained(tmp_path, output_loading_info=True)
    assert isinstance(model, ElectraModel)
    assert not told["missing_keys"]
    assert not told["mismatched_keys"]
    _, told = ElectraForTokenClassification.from_pretrained(tmp_path, output_loading_info=True)
    assert sorted(told["missing_keys"]) == ["classifier.bias", "classifier.weight"]


def test_config_and_tokenizer_are_read_by_transformers(tokenizer: WordPiece, tmp_path: Path):
    save_discriminator(electra(), tokenizer, tmp_path)
    config = AutoConfig.from_pretrained(tmp_path)
    assert isinstance(config, ElectraConfig)
    assert config.architectures == ["ElectraForPreTraining"]
    assert (config.vocab_size, config.pad_token_id, config.layer_norm_eps) == (SIZE, 0, 1e-12)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    assert theirs("a ba")["input_ids"] == [2, 5, 6, 15, 3]
    assert theirs.model_max_length == SHAPE.positions


def test_weights_are_marked_for_torch_and_cut_to_the_tokenizer(tokenizer: WordPiece, tmp_path: Path):
    save_run(electra(), tokenizer, tmp_path)
    for half in ("discriminator", "generator"):
        with safe_open(tmp_path / half / "model.safetensors", "pt") as file:
            assert file.metadata()["format"] == "pt"  # what Hugging Face's programs ask for
            assert file.get_slice("electra.embeddings.word_embeddings.weight").get_shape() == [SIZE, 6]
            assert file.get_slice("electra.embeddings.word_embeddings.weight").get_dtype() == "F32"
    assert load_file(tmp_path / "generator" / "model.safetensors")["generator_lm_head.bias"].shape == (SIZE,)


def test_a_tokenizer_with_more_pieces_than_the_model_is_refused(tokenizer: WordPiece, tmp_path: Path):
    model = Encoder(EncoderShape(1, 4, 4, 1, 4, SIZE - 1, 10))
    with pytest.raises(ValueError, match=f"{SIZE} pieces.*{SIZE - 1}"):
        save_encoder(model, tokenizer, tmp_path / "out")
    assert not (tmp_path / "out").exists()


# ---- in


def theirs_saved(kind: type, folder: Path, tokenizer: WordPiece, *, safe: bool, **changes: int):
    config = ElectraConfig(**{**huggingface_config(SHAPE, architecture="", pad=0), "vocab_size": SIZE, **changes})
    model = randomized(kind(config).eval(), seed=8)
    if hasattr(model, "generator_lm_head"):
        model.tie_weights()
    model.save_pretrained(folder, safe_serialization=safe)
    tokenizer.save(folder)
    return model


@pytest.mark.parametrize("safe", [True, False], ids=["safetensors", "bin"])
@pytest.mark.parametrize(
    "kind", [ElectraModel, ElectraForPreTraining, ElectraForMaskedLM, ElectraForTokenClassification]
)
def test_the_encoder_of_any_electra_directory_is_loaded(kind: type, safe: bool, tokenizer: WordPiece, tmp_path: Path):
    theirs = theirs_saved(kind, tmp_path, tokenizer, safe=safe)
    encoder, pieces = load_encoder(str(tmp_path))
    base = theirs if kind is ElectraModel else theirs.electra
    with torch.no_grad():
        torch.testing.assert_close(encoder(IDS), base(IDS).last_hidden_state, rtol=0, atol=1e-5)
    assert pieces.size == SIZE


def test_an_encoder_without_projection_is_loaded(tokenizer: WordPiece, tmp_path: Path):
    theirs = theirs_saved(ElectraModel, tmp_path, tokenizer, safe=True, embedding_size=8)
    encoder, _ = load_encoder(str(tmp_path))
    with torch.no_grad():
        torch.testing.assert_close(encoder(IDS), theirs(IDS).last_hidden_state, rtol=0, atol=1e-5)


def test_stored_position_numbers_and_a_stored_output_matrix_are_tolerated(tokenizer: WordPiece, tmp_path: Path):
    theirs = theirs_saved(ElectraForMaskedLM, tmp_path, tokenizer, safe=False)
    weights = torch.load(tmp_path / "pytorch_model.bin", weights_only=True)
    assert "generator_lm_head.weight" in weights
    torch.save({**weights, "electra.embeddings.position_ids": torch.arange(10)[None]}, tmp_path / "pytorch_model.bin")
    encoder, _ = load_encoder(str(tmp_path))
    assert torch.equal(encoder.embeddings.word.weight, theirs.electra.embeddings.word_embeddings.weight)


def test_half_precision_weights_become_float32(tokenizer: WordPiece, tmp_path: Path):
    save_encoder(randomized(Encoder(SHAPE)), tokenizer, tmp_path)
    weights = {name: tensor.half() for name, tensor in load_file(tmp_path / "model.safetensors").items()}
    save_file(weights, tmp_path / "model.safetensors")
    encoder, _ = load_encoder(str(tmp_path))
    assert {parameter.dtype for parameter in encoder.parameters()} == {torch.float32}
    assert torch.equal(encoder.embeddings.word.weight.half(), weights["embeddings.word_embeddings.weight"])


def test_an_encoder_comes_back_as_it_was_saved(tokenizer: WordPiece, tmp_path: Path):
    model = electra()
    encoder, pieces = load_encoder(save_run(model, tokenizer, tmp_path))  # finds discriminator/ in a run's folder
    assert agree(encoder, encoder_of(model))
    assert not agree(encoder, encoder_of(electra(seed=1)))
    assert encoder.shape.vocab == SIZE
    assert encoder.shape.positions == SHAPE.positions
    assert pieces.fingerprint == tokenizer.fingerprint


@pytest.mark.parametrize("shape", [SHAPE, GENERATOR])
def test_a_shape_survives_its_config(shape: EncoderShape):
    config = json.loads(json.dumps(huggingface_config(shape, architecture="ElectraModel", pad=0)))
    assert shape_of(config) == shape


def test_keys_that_a_config_lacks_have_hugging_faces_defaults():
    assert shape_of({"model_type": "electra"}) == EncoderShape(12, 256, 1024, 4, 128, 30522, 512)
    defaults = ElectraConfig()
    assert shape_of(defaults.to_dict()) == shape_of({"model_type": "electra"})


# ---- continuing


def test_a_run_fills_both_halves(tokenizer: WordPiece, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    saved = electra()
    run = save_run(saved, tokenizer, tmp_path)
    fresh = electra(seed=1)
    own_rows = fresh.embeddings.word.weight[SIZE:].clone()
    assert not agree(fresh, saved)
    with caplog.at_level(logging.INFO, logger="spacy_electra"):
        assert load_electra(run, fresh, tokenizer=tokenizer) == []
    assert agree(fresh, saved)
    assert torch.equal(fresh.embeddings.word.weight[SIZE:], own_rows)
    assert caplog.messages == []


def test_directories_that_hugging_face_wrote_fill_both_halves(
    tokenizer: WordPiece, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    sizes = {"num_hidden_layers": 3, "hidden_size": 4, "intermediate_size": 5, "num_attention_heads": 1}
    judge = theirs_saved(ElectraForPreTraining, tmp_path / "discriminator", tokenizer, safe=True)
    guesser = theirs_saved(ElectraForMaskedLM, tmp_path / "generator", tokenizer, safe=True, **sizes)
    guesser.electra.embeddings.load_state_dict(judge.electra.embeddings.state_dict())
    guesser.save_pretrained(tmp_path / "generator")
    with caplog.at_level(logging.INFO, logger="spacy_electra"):
        ours = electra(seed=1)
        load_electra(str(tmp_path), ours, tokenizer=tokenizer)
    assert caplog.messages == []
    with torch.no_grad():
        embedded = ours.embeddings(IDS, torch.arange(6).expand_as(IDS), torch.zeros_like(IDS))
        guesses = ours.masked_head(
            ours.generator(embedded, RowAttention(None, trainable)), ours.embeddings.word.weight
        )[..., :SIZE]
        torch.testing.assert_close(guesses, guesser(IDS).logits, rtol=0, atol=1e-5)
        torch.testing.assert_close(ours.replaced_head(encoder_of(ours)(IDS)), judge(IDS).logits, rtol=0, atol=1e-5)


def test_tied_halves_are_saved_as_two_directories_and_come_back(tokenizer: WordPiece, tmp_path: Path):
    saved, fresh = (randomized(Electra(generator=None, discriminator=SHAPE), seed) for seed in (0, 1))
    run = save_run(saved, tokenizer, tmp_path)
    one = loaded_whole(ElectraForPreTraining, tmp_path / "discriminator").electra
    two = loaded_whole(ElectraForMaskedLM, tmp_path / "generator").electra
    assert agree(one, two)
    load_electra(run, fresh, tokenizer=tokenizer)
    assert agree(fresh, saved)


def test_two_directories_fill_both_halves(tokenizer: WordPiece, tmp_path: Path):
    saved, fresh = electra(), electra(seed=1)
    save_discriminator(saved, tokenizer, tmp_path / "one")
    save_generator(saved, tokenizer, tmp_path / "two")
    load_electra(str(tmp_path / "one"), fresh, tokenizer=tokenizer, generator=str(tmp_path / "two"))
    assert agree(fresh, saved)


def test_without_a_generator_its_weights_stay_and_a_warning_says_so(
    tokenizer: WordPiece, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    saved, fresh = electra(), electra(seed=1)
    save_discriminator(saved, tokenizer, tmp_path / "discriminator")
    load_electra(str(tmp_path), fresh, tokenizer=tokenizer)
    assert agree(fresh.discriminator, saved.discriminator)
    assert agree(fresh.replaced_head, saved.replaced_head)
    assert agree(fresh.generator, electra(seed=1).generator)
    assert agree(fresh.masked_head, electra(seed=1).masked_head)
    assert "no generator was found" in caplog.text
    assert str(tmp_path) in caplog.text


def test_a_discriminator_without_its_head_keeps_the_models_and_a_warning_says_so(
    tokenizer: WordPiece, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    saved, fresh = electra(), electra(seed=1)
    save_encoder(encoder_of(saved), tokenizer, tmp_path)
    load_electra(str(tmp_path), fresh, tokenizer=tokenizer)
    assert agree(fresh.discriminator, saved.discriminator)
    assert agree(fresh.replaced_head, electra(seed=1).replaced_head)
    assert "replaced_head" in caplog.text


def test_the_discriminators_embeddings_win_and_the_difference_is_logged(
    tokenizer: WordPiece, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    saved, other, fresh = electra(), electra(seed=1), electra(seed=2)
    other.embeddings.norm.load_state_dict(saved.embeddings.norm.state_dict())
    save_discriminator(saved, tokenizer, tmp_path / "discriminator")
    save_generator(other, tokenizer, tmp_path / "generator")
    load_electra(str(tmp_path), fresh, tokenizer=tokenizer)
    assert agree(fresh.embeddings, saved.embeddings)
    assert agree(fresh.generator, other.generator)
    assert "embeddings.word_embeddings.weight" in caplog.text
    assert "LayerNorm" not in caplog.text


@pytest.mark.parametrize(("change", "is_told"), [(0.0, False), (1.0, True)])
def test_scores_of_a_generator_that_are_not_its_embeddings_are_logged_as_unused(
    tokenizer: WordPiece, tmp_path: Path, caplog: pytest.LogCaptureFixture, change: float, is_told: bool
):
    saved = electra()
    save_discriminator(saved, tokenizer, tmp_path / "discriminator")
    save_generator(saved, tokenizer, tmp_path / "generator")
    path = tmp_path / "generator" / "model.safetensors"
    weights = load_file(path)
    weights["generator_lm_head.weight"] = weights["electra.embeddings.word_embeddings.weight"] + change
    save_file(weights, path, metadata={"format": "pt"})
    load_electra(str(tmp_path), electra(seed=1), tokenizer=tokenizer)
    assert ("its generator_lm_head.weight differs from its word embeddings" in caplog.text) == is_told


def test_a_masked_language_model_continues_with_its_head(tokenizer: WordPiece, tmp_path: Path):
    saved, fresh = randomized(MaskedLanguageModel(SHAPE)), randomized(MaskedLanguageModel(SHAPE), seed=1)
    save_discriminator(saved, tokenizer, tmp_path / "discriminator")
    load_electra(str(tmp_path), fresh, tokenizer=tokenizer)
    assert agree(fresh, saved)


@pytest.mark.parametrize("positions", [7, 30], ids=["longer than wanted", "shorter than wanted"])
def test_the_position_table_is_taken_as_it_was_saved(positions: int, tokenizer: WordPiece, tmp_path: Path):
    saved = electra()
    shapes = [EncoderShape(**{**vars(shape), "positions": positions}) for shape in (GENERATOR, SHAPE)]
    fresh = Electra(generator=shapes[0], discriminator=shapes[1])
    load_electra(save_run(saved, tokenizer, tmp_path), fresh, tokenizer=tokenizer)
    assert torch.equal(fresh.embeddings.position.weight, saved.embeddings.position.weight)
    assert fresh.embeddings.position.weight.requires_grad
    assert (fresh.shape.positions, fresh.generator_shape.positions) == (10, 10)


def test_a_model_of_another_shape_is_refused_with_both_numbers(tokenizer: WordPiece, tmp_path: Path):
    run = save_run(electra(), tokenizer, tmp_path)
    wide = Electra(generator=GENERATOR, discriminator=EncoderShape(**{**vars(SHAPE), "width": 16, "feed_forward": 24}))
    with pytest.raises(ValueError, match=r"width=16 \(saved: 8\), feed_forward=24 \(saved: 12\)"):
        load_electra(run, wide, tokenizer=tokenizer)
    thin = Electra(generator=EncoderShape(**{**vars(GENERATOR), "width": 8}), discriminator=SHAPE)
    with pytest.raises(ValueError, match=r"generator do not fit the model: width=8 \(saved: 4\)"):
        load_electra(run, thin, tokenizer=tokenizer)


# ---- the hub, without a network


def put_in_cache(cache: Path, name: str, folder: Path) -> None:
    """What the hub's client leaves behind after fetching a model."""
    place = cache / f"models--{name.replace('/', '--')}"
    shutil.copytree(folder, place / "snapshots" / ("0" * 40))
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text("0" * 40, encoding="utf8")


def test_a_hub_name_that_was_fetched_before_is_loaded_with_its_generator(
    tokenizer: WordPiece, tmp_path: Path, offline: Path
):
    saved, fresh = electra(), electra(seed=1)
    save_run(saved, tokenizer, tmp_path)
    put_in_cache(offline, HUB_NAME, tmp_path / "discriminator")
    put_in_cache(offline, "google/electra-small-generator", tmp_path / "generator")
    assert agree(load_encoder(HUB_NAME)[0], encoder_of(saved))
    load_electra(HUB_NAME, fresh, tokenizer=tokenizer)
    assert agree(fresh, saved)


def test_a_hub_name_whose_generator_is_not_there_gives_a_fresh_one(
    tokenizer: WordPiece, tmp_path: Path, offline: Path, caplog: pytest.LogCaptureFixture
):
    saved, fresh = electra(), electra(seed=1)
    save_discriminator(saved, tokenizer, tmp_path / "saved")
    put_in_cache(offline, HUB_NAME, tmp_path / "saved")
    load_electra(HUB_NAME, fresh, tokenizer=tokenizer)
    assert agree(fresh.discriminator, saved.discriminator)
    assert agree(fresh.generator, electra(seed=1).generator)
    assert "google/electra-small-generator" in caplog.text
    assert "no generator was found" in caplog.text


@pytest.mark.parametrize("name", [HUB_NAME, "nowhere"])
def test_a_name_that_is_nowhere_is_one_error_that_says_what_to_do(name: str, offline: Path):
    with pytest.raises(FileNotFoundError, match=f"'{name}' is neither a directory nor .* reached.*hf download") as told:
        load_encoder(name)
    assert "directory" in str(told.value)


def test_a_misspelt_directory_gets_the_one_that_is_meant(
    tmp_path: Path, offline: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "assets" / "electra-en").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"Did you mean the directory assets/electra-en\?"):
        load_encoder("asets/electra-en")


@pytest.mark.parametrize("name", ["/no/such/place", "./no", "../no/such", "training/no/such/model-last", "~/no"])
def test_what_can_only_be_a_path_is_never_looked_for_on_the_hub(name: str):
    with pytest.raises(FileNotFoundError, match=f"there is no directory '{name}', expected one that holds") as told:
        load_encoder(name)
    assert "hub" not in str(told.value)
    assert (str(Path.cwd()) in str(told.value)) is (not Path(name).is_absolute())


@pytest.mark.parametrize("has_safetensors", [True, False], ids=["both kinds of weights", "old weights alone"])
def test_old_weights_are_fetched_only_where_there_are_no_others(
    has_safetensors: bool, tokenizer: WordPiece, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    remote, local = tmp_path / "remote", tmp_path / "local"
    theirs_saved(ElectraModel, remote, tokenizer, safe=False)
    if has_safetensors:
        theirs_saved(ElectraModel, remote, tokenizer, safe=True)
    (remote / "tf_model.h5").touch()

    def fetch(name: str, *, allow_patterns: list[str]) -> str:
        local.mkdir(exist_ok=True)
        for file in allow_patterns:
            if (remote / file).exists():
                shutil.copy(remote / file, local / file)
        return str(local)

    monkeypatch.setattr("spacy_electra.model.files.hub.snapshot_download", fetch)
    load_encoder(HUB_NAME)
    assert (local / "model.safetensors").exists() == has_safetensors
    assert (local / "pytorch_model.bin").exists() != has_safetensors
    assert not (local / "tf_model.h5").exists()


# ---- directories that are no such model


@pytest.mark.parametrize("config", [RobertaConfig, DebertaV2Config, AlbertConfig, MobileBertConfig])
def test_another_kind_of_model_is_named_with_those_that_can_be_read(config: type, tmp_path: Path):
    config().save_pretrained(tmp_path)
    told = rf"config.json: model_type is '{config.model_type}'.*ELECTRA, BERT or DistilBERT with a WordPiece"
    with pytest.raises(ValueError, match=told):
        load_encoder(str(tmp_path))


@pytest.mark.parametrize(
    ("missing", "told"),
    [
        ("config.json", "no config.json"),
        ("model.safetensors", "neither model.safetensors nor pytorch_model.bin"),
    ],
)
def test_a_missing_file_is_named(missing: str, told: str, tokenizer: WordPiece, tmp_path: Path):
    save_discriminator(electra(), tokenizer, tmp_path)
    (tmp_path / missing).unlink()
    with pytest.raises(FileNotFoundError, match=told):
        load_encoder(str(tmp_path))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("hidden_act", "relu"),
        ("layer_norm_eps", 1e-5),
        ("position_embedding_type", "relative_key"),
        ("hidden_size", -8),
    ],
)
def test_a_config_that_asks_for_other_arithmetic_is_refused(key: str, value: object):
    config = huggingface_config(SHAPE, architecture="ElectraModel", pad=0)
    with pytest.raises(ValueError, match=f"{key}.*{value}"):
        shape_of({**config, key: value})


def test_weights_and_config_of_different_models_are_refused(tokenizer: WordPiece, tmp_path: Path):
    save_discriminator(electra(), tokenizer, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    for change, told in (
        ({"num_hidden_layers": 1}, r"does not speak of the weight 'encoder.layer.1"),
        ({"num_hidden_layers": 3}, r"weight 'encoder.layer.2.* is missing"),
        ({"intermediate_size": 16}, r"intermediate.dense.weight' has shape \(12, 8\)"),
        ({"vocab_size": SIZE + 1}, r"word_embeddings.weight' has shape"),
    ):
        (tmp_path / "config.json").write_text(json.dumps({**config, **change}))
        with pytest.raises(ValueError, match=told):
            load_encoder(str(tmp_path))


@pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin", "config.json"])
def test_a_damaged_file_is_named(file: str, tokenizer: WordPiece, tmp_path: Path):
    save_discriminator(electra(), tokenizer, tmp_path)
    if file == "pytorch_model.bin":
        (tmp_path / "model.safetensors").unlink()
    (tmp_path / file).write_bytes(b"damaged")
    with pytest.raises(ValueError, match=file):
        load_encoder(str(tmp_path))


class _Payload:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (Path("ran"),)


def test_weights_that_need_code_are_refused_and_not_run(
    tokenizer: WordPiece, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    save_discriminator(electra(), tokenizer, tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save({"weights": _Payload()}, tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match="never run"):
        load_encoder(str(tmp_path))
    assert not (tmp_path / "ran").exists()
