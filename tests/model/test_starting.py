"""Weights of another depth or vocabulary fill a model for pretraining."""

import json
import logging
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from spacy_electra.data.tokenizer.wordpiece import WordPiece
from spacy_electra.model.files.huggingface import save_discriminator, save_generator
from spacy_electra.model.init.pretrained import load_electra
from spacy_electra.model.network.electra import Electra, MaskedLanguageModel
from spacy_electra.model.network.encoder import EncoderShape

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghij", "##a", "##b"]
SHAPE = EncoderShape(layers=3, width=8, feed_forward=12, heads=2, embedding=6, vocab=len(PIECES), positions=10)


def pieces(folder: Path, names: list[str]) -> WordPiece:
    folder.mkdir(exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(names) + "\n", encoding="utf8")
    return WordPiece.load(folder)


@pytest.fixture
def tokenizer(tmp_path: Path) -> WordPiece:
    return pieces(tmp_path / "tokenizer", PIECES)


def tied(seed: int, **changes: int) -> Electra:
    return randomized(Electra(generator=None, discriminator=EncoderShape(**{**vars(SHAPE), **changes})), seed)


def randomized(model: Electra, seed: int) -> Electra:
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0.0, 0.5)
    return model


def save(model: Electra, tokenizer: WordPiece, folder: Path) -> str:
    save_discriminator(model, tokenizer, folder / "discriminator")
    save_generator(model, tokenizer, folder / "generator")
    return str(folder)


def same(one: nn.Module, other: nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize(
    ("wanted", "chosen", "taken"),
    [(2, None, [0, 1]), (2, [0, 2], [0, 2]), (3, [2, 1, 0], [2, 1, 0]), (5, None, [0, 1, 2, 0, 1])],
    ids=["the lowest", "chosen", "in another order", "stacked"],
)
def test_layers_are_the_lowest_those_chosen_or_stacked(
    tokenizer: WordPiece,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    wanted: int,
    chosen: list[int] | None,
    taken: list[int],
):
    saved, fresh = tied(0), tied(1, layers=wanted)
    assert load_electra(save(saved, tokenizer, tmp_path), fresh, tokenizer=tokenizer, layers=chosen) == []
    for place, number in enumerate(taken):
        assert same(fresh.discriminator.blocks[place], saved.discriminator.blocks[number])
    assert same(fresh.masked_head, saved.masked_head)
    assert f"has 3 layers: the model takes {', '.join(map(str, taken))}." in caplog.text


@pytest.mark.parametrize("chosen", [[0], [0, 3], [0, -1]])
def test_layers_that_are_not_there_or_too_few_are_refused(tokenizer: WordPiece, tmp_path: Path, chosen: list[int]):
    run = save(tied(0), tokenizer, tmp_path)
    with pytest.raises(ValueError, match=r"init_layers must name 2 of the 3 layers in .* from 0 to 2, but is"):
        load_electra(run, tied(1, layers=2), tokenizer=tokenizer, layers=chosen)


def test_another_vocabulary_takes_the_vectors_of_its_pieces(
    tokenizer: WordPiece, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    saved = tied(0)
    names = [*PIECES[:5], "j", "ab", "a"]
    new = pieces(tmp_path / "new", names)
    fresh = tied(1, vocab=16)
    own = fresh.embeddings.word.weight[len(names) :].clone()
    assert load_electra(save(saved, tokenizer, tmp_path / "run"), fresh, tokenizer=new) == []
    words, old = fresh.embeddings.word.weight, saved.embeddings.word.weight
    assert torch.equal(words[5], old[PIECES.index("j")])
    torch.testing.assert_close(words[6], (old[PIECES.index("a")] + old[PIECES.index("##b")]) / 2)
    assert torch.equal(words[len(names) :], own)
    bias, theirs = fresh.masked_head.bias, saved.masked_head.bias
    assert torch.equal(bias[7], theirs[PIECES.index("a")])
    torch.testing.assert_close(bias[6], (theirs[PIECES.index("a")] + theirs[PIECES.index("##b")]) / 2)
    assert same(fresh.discriminator, saved.discriminator)
    assert same(fresh.masked_head.dense, saved.masked_head.dense)
    assert "has another vocabulary (17 pieces against 8 pieces" in caplog.text
    assert "of 8 pieces 7 copied, 1 composed, 0 without a source" in caplog.text
    assert "fewer than half" not in caplog.text


@pytest.mark.parametrize(("change", "is_told"), [(0.0, False), (1.0, True)])
def test_scores_that_are_not_the_embeddings_are_told_of_with_another_vocabulary_too(
    tokenizer: WordPiece, tmp_path: Path, caplog: pytest.LogCaptureFixture, change: float, is_told: bool
):
    folder = save(tied(0), tokenizer, tmp_path / "run")
    path = tmp_path / "run" / "generator" / "model.safetensors"
    weights = load_file(path)
    weights["generator_lm_head.weight"] = weights["electra.embeddings.word_embeddings.weight"] + change
    save_file(weights, path, metadata={"format": "pt"})
    load_electra(folder, tied(1), tokenizer=pieces(tmp_path / "new", [*PIECES[:5], "j", "ab", "a"]))
    assert ("its generator_lm_head.weight differs from its word embeddings" in caplog.text) == is_told


def test_a_vocabulary_of_other_words_is_warned_of(
    tokenizer: WordPiece, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    new = pieces(tmp_path / "new", [*PIECES[:5], *"klmnopqrst"])
    load_electra(save(tied(0), tokenizer, tmp_path / "run"), tied(1), tokenizer=new)
    assert "fewer than half of the pieces are known" in caplog.text


def test_a_generator_that_was_not_saved_starts_from_the_lowest_layers(
    tokenizer: WordPiece, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    saved = tied(0)
    save_discriminator(saved, tokenizer, tmp_path / "discriminator")
    shallow = EncoderShape(**{**vars(SHAPE), "layers": 2})
    fresh = randomized(Electra(generator=shallow, discriminator=SHAPE), 1)
    assert load_electra(str(tmp_path), fresh, tokenizer=tokenizer) == ["masked_head"]
    assert same(fresh.generator.project, saved.discriminator.project)
    for place in (0, 1):
        assert same(fresh.generator.blocks[place], saved.discriminator.blocks[place])
    assert "it starts from the lowest 2 of its layers" in caplog.text


def test_types_are_taken_as_they_were_saved(tokenizer: WordPiece, tmp_path: Path):
    saved, fresh = tied(0, types=4), tied(1)
    load_electra(save(saved, tokenizer, tmp_path), fresh, tokenizer=tokenizer)
    assert torch.equal(fresh.embeddings.token_type.weight, saved.embeddings.token_type.weight)
    assert (fresh.shape.types, fresh.generator_shape.types) == (4, 4)


def test_a_masked_language_model_may_have_fewer_layers_and_other_pieces(
    tokenizer: WordPiece, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.WARNING)
    saved = MaskedLanguageModel(SHAPE)
    save_discriminator(saved, tokenizer, tmp_path / "mlm")
    fresh = MaskedLanguageModel(EncoderShape(**{**vars(SHAPE), "layers": 1, "vocab": 8}))
    new = pieces(tmp_path / "new", [*PIECES[:5], "b", "c", "d"])
    assert load_electra(str(tmp_path / "mlm"), fresh, tokenizer=new) == []
    assert torch.equal(fresh.embeddings.word.weight[5], saved.embeddings.word.weight[PIECES.index("b")])
    assert torch.equal(fresh.masked_head.bias[6], saved.masked_head.bias[PIECES.index("c")])


def test_a_tied_model_that_is_deeper_than_its_start_takes_the_masked_head(tokenizer: WordPiece, tmp_path: Path):
    saved = MaskedLanguageModel(SHAPE)
    save_discriminator(saved, tokenizer, tmp_path / "mlm")
    fresh = tied(1, layers=5)
    assert load_electra(str(tmp_path / "mlm"), fresh, tokenizer=tokenizer) == ["replaced_head"]
    assert same(fresh.masked_head, saved.masked_head)


def test_a_tied_model_does_not_take_the_head_of_another_body(
    tokenizer: WordPiece, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    narrow = EncoderShape(**{**vars(SHAPE), "width": 4})
    saved = randomized(Electra(generator=narrow, discriminator=SHAPE), 0)
    fresh = tied(1)
    assert load_electra(save(saved, tokenizer, tmp_path), fresh, tokenizer=tokenizer) == ["masked_head"]
    assert same(fresh.masked_head, tied(1).masked_head)
    assert "has a body of its own, but this model guesses with the discriminator's" in caplog.text


def test_a_folder_with_a_generators_head_alone_fills_a_body_with_the_discriminators(
    tokenizer: WordPiece, tmp_path: Path
):
    saved = tied(0)
    run = save(saved, tokenizer, tmp_path)
    path = tmp_path / "generator" / "model.safetensors"
    head = {name: tensor for name, tensor in load_file(path).items() if not name.startswith("electra.")}
    save_file(head, path, metadata={"format": "pt"})
    fresh = randomized(Electra(generator=EncoderShape(**{**vars(SHAPE), "layers": 1}), discriminator=SHAPE), 1)
    assert load_electra(run, fresh, tokenizer=tokenizer) == []
    assert same(fresh.generator.blocks[0], saved.discriminator.blocks[0])
    assert same(fresh.masked_head, saved.masked_head)


def test_tables_that_are_longer_than_the_tokenizer_are_cut(tokenizer: WordPiece, tmp_path: Path):
    saved = tied(0)
    run = save(saved, tokenizer, tmp_path)
    for half in ("discriminator", "generator"):
        path, config = tmp_path / half / "model.safetensors", tmp_path / half / "config.json"
        long = ("electra.embeddings.word_embeddings.weight", "generator_lm_head.bias")
        weights = {
            name: torch.cat([tensor, tensor.new_zeros(90, *tensor.shape[1:])]) if name in long else tensor
            for name, tensor in load_file(path).items()
        }
        save_file(weights, path, metadata={"format": "pt"})
        config.write_text(json.dumps(json.loads(config.read_text()) | {"vocab_size": len(PIECES) + 90}))
    fresh = tied(1)
    assert load_electra(run, fresh, tokenizer=tokenizer) == []
    assert same(fresh, saved)
