"""The encoder in assets/electra-en: small enough to ship, whole, and a better guesser of English than chance."""

from pathlib import Path

import numpy as np
import torch

from spacy_electra.cli.start import read_start
from spacy_electra.data.tokenizer.wordpiece import WordPiece
from spacy_electra.model.init.pretrained import load_electra, load_encoder
from spacy_electra.model.network.attention import RowAttention, trainable
from spacy_electra.model.network.electra import Electra
from spacy_electra.model.network.encoder import EncoderShape

SENTENCE = "the president of the united states lives in the white house ."


def test_it_is_small_and_has_its_licence(assets: Path) -> None:
    folder = assets / "electra-en"
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < 24e6
    assert "Apache License" in (folder / "LICENSE").read_text(encoding="utf8")


def test_both_halves_are_whole(assets: Path) -> None:
    start = read_start(str(assets / "electra-en"))
    assert start.generator is None  # tied
    tokenizer = WordPiece.load(assets / "electra-en" / "discriminator")
    shape = EncoderShape(**start.discriminator, vocab=tokenizer.size, positions=start.positions)
    model = Electra(generator=None, discriminator=shape)
    assert load_electra(str(assets / "electra-en"), model, tokenizer=tokenizer) == []
    ids = torch.from_numpy(tokenizer.encode_ids([SENTENCE])[0].astype(np.int64))
    row = torch.tensor([[tokenizer.special.cls, *ids.tolist(), tokenizer.special.sep]])
    places = torch.arange(1, row.shape[1] - 1)
    with torch.no_grad():
        right = 0
        for place in places.tolist():
            masked = row.clone()
            masked[0, place] = tokenizer.special.mask
            embedded = model.embeddings(masked, torch.arange(row.shape[1])[None], torch.zeros_like(row))
            hidden = model.discriminator(embedded, RowAttention(None, trainable))[:, place]
            right += int(model.masked_head(hidden, model.embeddings.word.weight).argmax() == row[0, place])
    assert right >= 5  # of 12


def test_words_that_mean_alike_have_vectors_that_are_alike(assets: Path) -> None:
    encoder, tokenizer = load_encoder(str(assets / "electra-en"))
    numbers = {word: tokenizer.vocabulary.index(word) for word in ("monday", "tuesday", "banana")}
    words = torch.nn.functional.normalize(encoder.embeddings.word.weight.detach(), dim=1)
    monday, tuesday, banana = (words[number] for number in numbers.values())
    assert monday @ tuesday > monday @ banana + 0.1
