"""A model or vocabulary in the place of another: whole, wherever the process is killed; no flipped bit unnoticed."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from spacy_electra.data.tokenizer.wordpiece import WordPiece
from spacy_electra.model.files.huggingface import save_encoder
from spacy_electra.model.init.pretrained import load_encoder
from spacy_electra.model.network.encoder import Encoder, EncoderShape

KilledAtEveryStep = Callable[..., int]

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
OLD, NEW = "abc", "cdba"


def tokenizer_of(letters: str, folder: Path) -> WordPiece:
    folder.mkdir(exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join([*SPECIAL, *letters]))
    return WordPiece.load(folder)


def encoder_of(letters: str) -> Encoder:
    size = len(SPECIAL) + len(letters)
    encoder = Encoder(EncoderShape(1, 4, 4, 1, 4, size, 10))
    torch.nn.init.constant_(encoder.embeddings.word.weight, float(size))
    return encoder


@pytest.fixture
def vocabularies(tmp_path: Path) -> dict[str, WordPiece]:
    return {letters: tokenizer_of(letters, tmp_path / letters) for letters in (OLD, NEW)}


def test_a_killed_export_is_the_old_model_or_the_new(
    vocabularies: dict[str, WordPiece], killed_at_every_step: KilledAtEveryStep
) -> None:
    found = []

    def check(folder: Path) -> None:
        if (folder / "config.json").exists():  # else no program reads the model
            size = json.loads((folder / "config.json").read_text())["vocab_size"]
            assert len((folder / "vocab.txt").read_text().splitlines()) == size
        encoder, tokenizer = load_encoder(str(folder))
        letters = next(letters for letters in (OLD, NEW) if tokenizer.vocabulary == vocabularies[letters].vocabulary)
        assert encoder.embeddings.word.weight.unique().tolist() == [float(tokenizer.size)]
        assert (folder / "model.onnx").exists() == (letters == OLD)
        assert (folder / "mine").exists()
        found.append(letters)

    def prepare(folder: Path) -> None:
        save_encoder(encoder_of(OLD), vocabularies[OLD], folder)
        (folder / "model.onnx").touch()
        (folder / "mine").touch()

    kills = killed_at_every_step(
        lambda folder: save_encoder(encoder_of(NEW), vocabularies[NEW], folder), prepare=prepare, check=check, every=2
    )
    assert kills >= 10
    assert found == sorted(found)
    assert set(found) == {OLD, NEW}


def test_a_killed_vocabulary_is_the_old_one_or_the_new(
    vocabularies: dict[str, WordPiece], killed_at_every_step: KilledAtEveryStep
) -> None:
    found = []

    def check(folder: Path) -> None:
        if (folder / "tokenizer.json").exists():
            model = json.loads((folder / "tokenizer.json").read_text())["model"]
            assert list(model["vocab"]) == (folder / "vocab.txt").read_text().splitlines()
        found.append(WordPiece.load(folder).vocabulary)

    killed_at_every_step(
        lambda folder: vocabularies[NEW].save(folder),
        prepare=lambda folder: vocabularies[OLD].save(folder),
        check=check,
        every=2,
    )
    assert (found[0], found[-1]) == (vocabularies[OLD].vocabulary, vocabularies[NEW].vocabulary)
    assert all(vocabulary in (found[0], found[-1]) for vocabulary in found)


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [("model.safetensors", None, None), ("tokenizer.json", b'"b"', b'"q"'), ("vocab.txt", b"b", b"q")],
)
def test_changed_bytes_of_a_model_are_noticed(
    vocabularies: dict[str, WordPiece], tmp_path: Path, name: str, old: bytes | None, new: bytes | None
) -> None:
    save_encoder(encoder_of(OLD), vocabularies[OLD], tmp_path / "model")
    path = tmp_path / "model" / name
    content = path.read_bytes()
    path.write_bytes(content.replace(old, new) if old and new else content[:-1] + bytes([content[-1] ^ 1]))
    if name == "vocab.txt":  # which is read where the other one is missing
        path.with_name("tokenizer.json").unlink()
    with pytest.raises(ValueError, match=f"{name} was changed after it was written"):
        load_encoder(str(tmp_path / "model"))


def test_settings_may_be_edited_and_checksums_be_gone(vocabularies: dict[str, WordPiece], tmp_path: Path) -> None:
    folder = tmp_path / "model"
    save_encoder(encoder_of(OLD), vocabularies[OLD], folder)
    for name in ("config.json", "tokenizer_config.json"):
        (folder / name).write_text(json.dumps(json.loads((folder / name).read_text()) | {"mine": 1}))
    (folder / "tokenizer.json").write_text((folder / "tokenizer.json").read_text().replace('"b"', '"q"'))
    (folder / "tokenizer.sha256").unlink()
    assert "q" in load_encoder(str(folder))[1].vocabulary
