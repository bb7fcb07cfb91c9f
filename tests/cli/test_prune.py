"""`prune`: smaller models out of a run, a folder and a BERT; and `train-tokenizer --from` with fewer pieces."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import (
    AutoModel,
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
    ElectraForMaskedLM,
    ElectraForPreTraining,
)

from spacy_electra.data.tokenizer.wordpiece import WordPiece
from spacy_electra.model.init.pretrained import load_encoder

Invoke = Callable[..., Any]
PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[unused0]", *map(chr, range(97, 123)), "the", "cat", "##s"]


@pytest.fixture
def bert(tmp_path: Path) -> Path:
    config = BertConfig(
        vocab_size=len(PIECES),
        hidden_size=8,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=12,
        max_position_embeddings=16,
    )
    torch.manual_seed(0)
    BertForMaskedLM(config).save_pretrained(tmp_path / "bert")
    (tmp_path / "bert" / "vocab.txt").write_text("\n".join(PIECES) + "\n", encoding="utf8")
    return tmp_path / "bert"


@pytest.fixture
def text(tmp_path: Path) -> Path:
    (tmp_path / "text.txt").write_text("the cats the cat abc\n", encoding="utf8")
    return tmp_path / "text.txt"


def whole(kind: Any, folder: Path) -> Any:
    model, told = kind.from_pretrained(folder, output_loading_info=True)
    assert not any(told.values()), told
    return model.eval()


def test_a_bert_keeps_chosen_layers_used_pieces_and_its_masked_head(
    electra: Invoke, bert: Path, text: Path, tmp_path: Path
):
    out = tmp_path / "out"
    printed = electra("prune", bert, out, "--layers", "0,2", "--corpus", text)
    assert "Wrote 2 layers and 34 pieces" in printed
    theirs, pruned = BertForMaskedLM.from_pretrained(bert).eval(), whole(ElectraForMaskedLM, out)
    tokenizer = WordPiece.load(out)
    assert tokenizer.vocabulary == [piece for piece in PIECES if piece != "[unused0]"]
    old = torch.tensor([PIECES.index(piece) for piece in tokenizer.vocabulary])
    del theirs.bert.encoder.layer[1]
    ids = torch.tensor([[2, *tokenizer.encode(["the cats abc"])[0].ids.tolist(), 3]])
    with torch.no_grad():
        torch.testing.assert_close(pruned(ids).logits, theirs(old[ids]).logits[..., old], rtol=0, atol=1e-5)
    assert (
        AutoTokenizer.from_pretrained(out)("the cats")["input_ids"][1:-1]
        == tokenizer.encode(["the cats"])[0].ids.tolist()
    )


def test_both_halves_of_a_run_are_pruned_alike(electra: Invoke, run_dir: Path, corpus_path: Path, tmp_path: Path):
    out = tmp_path / "out"
    electra("prune", run_dir, out, "--layers", 1, "--vocab-size", 80, "--corpus", corpus_path)
    one, two = whole(ElectraForPreTraining, out / "discriminator"), whole(ElectraForMaskedLM, out / "generator")
    assert (one.config.num_hidden_layers, one.config.vocab_size, two.config.vocab_size) == (1, 80, 80)
    assert torch.equal(one.electra.embeddings.word_embeddings.weight, two.electra.embeddings.word_embeddings.weight)
    assert load_encoder(str(out))[0].shape.layers == 1


def test_layers_alone_leave_the_vocabulary(electra: Invoke, bert: Path, tmp_path: Path):
    electra("prune", bert, tmp_path / "out", "--layers", 1)
    assert AutoModel.from_pretrained(tmp_path / "out").config.vocab_size == len(PIECES)
    weights = load_file(tmp_path / "out" / "model.safetensors")
    assert not any(name.startswith("electra.encoder.layer.1.") for name in weights)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "nothing to prune: give --layers, or --corpus"),
        (("--vocab-size", 20), "--vocab-size needs a --corpus"),
        (("--layers", 4), "--layers 4 asks for others than the 3 layers"),
        (("--layers", "0,3"), "--layers 0,3 asks for others than the 3 layers"),
        (("--layers", 0), "--layers 0 asks for others"),
        (("--layers", "two"), "--layers must be a number, or numbers separated by commas, but is 'two'"),
    ],
)
def test_what_cannot_be_pruned_is_one_message(
    complaint: Invoke, bert: Path, tmp_path: Path, arguments: tuple[Any, ...], told: str
):
    assert told in complaint("prune", bert, tmp_path / "out", *arguments)
    assert not (tmp_path / "out").exists()


def test_a_model_is_replaced_only_when_asked(electra: Invoke, complaint: Invoke, bert: Path, tmp_path: Path):
    electra("prune", bert, tmp_path / "out", "--layers", 1)
    assert "holds a model already: add --overwrite" in complaint("prune", bert, tmp_path / "out", "--layers", 2)
    electra("prune", bert, tmp_path / "out", "--layers", 2, "--overwrite")
    assert AutoModel.from_pretrained(tmp_path / "out").config.num_hidden_layers == 2


def test_a_vocabulary_is_pruned_by_the_corpus(electra: Invoke, bert: Path, text: Path, tmp_path: Path):
    electra("train-tokenizer", text, tmp_path / "all", "--from", bert)
    electra("train-tokenizer", text, tmp_path / "few", "--from", bert, "--vocab-size", 34)
    assert WordPiece.load(tmp_path / "all").vocabulary == PIECES
    assert WordPiece.load(tmp_path / "few").vocabulary == [*PIECES[:5], *map(chr, range(97, 123)), "the", "cat", "##s"]


def test_one_folder_takes_the_place_of_two_halves_and_the_other_way_round(
    electra: Invoke, run_dir: Path, bert: Path, tmp_path: Path
):
    out = tmp_path / "out"
    electra("prune", run_dir, out, "--layers", 1)
    electra("prune", bert, out, "--layers", 2, "--overwrite")
    assert load_encoder(str(out))[0].shape.layers == 2
    assert not (out / "discriminator").exists()
    electra("prune", run_dir, out, "--layers", 1, "--overwrite")
    assert load_encoder(str(out))[0].shape.layers == 1
    assert not (out / "model.safetensors").exists()


def test_a_table_that_is_longer_than_the_tokenizer_is_cut(electra: Invoke, bert: Path, tmp_path: Path):
    (bert / "vocab.txt").write_text("\n".join(PIECES[:-1]) + "\n", encoding="utf8")
    electra("prune", bert, tmp_path / "out", "--layers", 1)
    assert load_encoder(str(tmp_path / "out"))[0].shape.vocab == len(PIECES) - 1


def test_a_pruned_model_is_scored_as_what_it_is_wherever_it_lies(
    electra: Invoke, run_dir: Path, store_dir: Path, tmp_path: Path
):
    shutil.copytree(run_dir, tmp_path / "run")
    electra("prune", run_dir, tmp_path / "run" / "small", "--layers", 1)
    electra("prune", run_dir, tmp_path / "small", "--layers", 1)
    scores = []
    calls = [(tmp_path / "run" / "small", "--all"), (tmp_path / "small", "--all"), (tmp_path / "small",)]
    for folder, *options in calls:  # without a run nothing is held out, so --all changes nothing
        electra("evaluate", folder, store_dir, *options, "--rows", 4, "--json", tmp_path / "scores.json")
        scores.append(json.loads((tmp_path / "scores.json").read_text())["scores"]["generator_loss"])
    assert scores[1:] == [scores[1]] * 2
    assert scores[0] == pytest.approx(scores[1], rel=1e-5)


def test_a_folder_of_the_users_own_stays(electra: Invoke, bert: Path, tmp_path: Path):
    (tmp_path / "out" / "generator").mkdir(parents=True)
    (tmp_path / "out" / "generator" / "notes.txt").write_text("mine")
    electra("prune", bert, tmp_path / "out", "--layers", 1)
    assert (tmp_path / "out" / "generator" / "notes.txt").read_text() == "mine"
