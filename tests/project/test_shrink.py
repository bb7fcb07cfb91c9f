"""The small copy of a model that ships with the project: what it leaves out, and that a run starts from it."""

from pathlib import Path

import pytest
import torch
import typer
from shrink import main as shrink

from spacy_electra.data.tokenizer.wordpiece import WordPiece
from spacy_electra.model.files.huggingface import save_discriminator, save_generator
from spacy_electra.model.init.pretrained import load_electra
from spacy_electra.model.network.electra import Electra
from spacy_electra.model.network.encoder import EncoderShape

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghij"]
SHAPE = EncoderShape(layers=2, width=16, feed_forward=32, heads=2, embedding=16, vocab=len(PIECES), positions=10)


def tied(seed: int) -> Electra:
    torch.manual_seed(seed)
    model = Electra(generator=None, discriminator=SHAPE)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0.0, 0.1)
    return model


@pytest.fixture
def tokenizer(tmp_path: Path) -> WordPiece:
    (tmp_path / "vocab.txt").write_text("\n".join(PIECES) + "\n", encoding="utf8")
    return WordPiece.load(tmp_path)


@pytest.mark.parametrize(("int8", "tolerance"), [(False, 1e-3), (True, 5e-3)], ids=["half precision", "bytes"])
def test_a_run_starts_from_a_small_copy_of_both_halves(
    tokenizer: WordPiece, tmp_path: Path, int8: bool, tolerance: float
) -> None:
    model, fresh = tied(0), tied(1)
    save_discriminator(model, tokenizer, tmp_path / "model" / "discriminator")
    save_generator(model, tokenizer, tmp_path / "model" / "generator")
    shrink(tmp_path / "model", tmp_path / "small", int8=int8)
    sizes = [
        sum(path.stat().st_size for path in (tmp_path / name).rglob("*.safetensors")) for name in ("model", "small")
    ]
    assert sizes[1] < sizes[0] / 2
    assert not (tmp_path / "small" / "generator" / "vocab.txt").exists()
    assert load_electra(str(tmp_path / "small"), fresh, tokenizer=tokenizer) == []
    for (name, one), other in zip(model.named_parameters(), fresh.parameters(), strict=True):
        torch.testing.assert_close(other, one, rtol=0, atol=tolerance, msg=name)


def test_a_small_copy_of_a_small_copy_holds_the_same_numbers(tokenizer: WordPiece, tmp_path: Path) -> None:
    save_discriminator(tied(0), tokenizer, tmp_path / "model" / "discriminator")
    save_generator(tied(0), tokenizer, tmp_path / "model" / "generator")
    models = [tied(1), tied(1)]
    for model, (source, target) in zip(models, (("model", "once"), ("once", "twice")), strict=True):
        shrink(tmp_path / source, tmp_path / target, int8=True)
        load_electra(str(tmp_path / target), model, tokenizer=tokenizer)
    for one, other in zip(*(model.parameters() for model in models), strict=True):
        assert torch.equal(one, other)


def test_a_generator_of_its_own_is_refused(tokenizer: WordPiece, tmp_path: Path) -> None:
    model = Electra(generator=SHAPE, discriminator=SHAPE)
    save_discriminator(model, tokenizer, tmp_path / "model" / "discriminator")
    save_generator(model, tokenizer, tmp_path / "model" / "generator")
    with pytest.raises(typer.Exit):
        shrink(tmp_path / "model", tmp_path / "small", int8=True)
    assert not (tmp_path / "small").exists()
