"""train-tokenizer, tokenize, debug data and debug pieces: from text to a store."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import spacy
from spacy.tokens import DocBin

from spacy_electra.cli.documents import corpus_files
from spacy_electra.data.store.merge import share_out
from spacy_electra.data.store.reader import Store
from spacy_electra.data.tokenizer.wordpiece import WordPiece

Invoke = Callable[..., Any]
SENTENCES = ["The tensor is not found.", "A small library reads the file."]


@pytest.fixture
def spacy_file(tmp_path: Path) -> Path:
    """The sentences as Docs, and an empty Doc between them."""
    nlp = spacy.blank("en")
    path = tmp_path / "docs.spacy"
    DocBin(docs=[nlp(SENTENCES[0]), nlp(""), nlp(SENTENCES[1])]).to_disk(path)
    return path


@pytest.mark.parametrize(
    ("options", "cased", "text", "pieces"),
    [
        ((), False, "Für", "fur"),
        (("--keep-accents",), False, "Für", "für"),
        (("--cased",), True, "Für", "Für"),
        (("--cased", "--strip-accents"), True, "Für", "Fur"),
    ],
)
def test_case_and_accents_are_chosen_on_the_command_line(
    electra: Invoke, tmp_path: Path, options: tuple[str, ...], cased: bool, text: str, pieces: str
):
    (tmp_path / "c.txt").write_text("Für fur für Fur " * 5, encoding="utf8")
    electra("train-tokenizer", tmp_path / "c.txt", tmp_path / "t", "--vocab-size", 60, *options)
    tokenizer = WordPiece.load(tmp_path / "t")
    assert tokenizer.cased is cased
    assert tokenizer.decode(tokenizer.encode([text])[0].ids) == pieces


@pytest.mark.parametrize(
    ("lines", "name", "is_said"), [(30, "c.txt", True), (3, "c.txt", False), (30, "c.spacy", False)]
)
def test_that_a_txt_of_many_lines_is_one_document_is_said(
    electra: Invoke, tokenizer_dir: Path, tmp_path: Path, lines: int, name: str, is_said: bool
):
    text = "\n".join(SENTENCES * (lines // 2 + 1))
    if name.endswith(".spacy"):
        DocBin(docs=[spacy.blank("en")(text)]).to_disk(tmp_path / name)
    else:
        (tmp_path / name).write_text(text, encoding="utf8")
    said = electra("tokenize", tmp_path / name, tmp_path / "store", "--tokenizer", tokenizer_dir)
    assert (f"{name} is one document; for one text a line use .jsonl" in said.replace("/ ", "/")) is is_said


def test_a_tokenizer_has_the_size_asked_for(tokenizer_dir: Path):
    assert WordPiece.load(tokenizer_dir).size == 120


def test_the_store_holds_the_pieces_of_the_corpus(corpus_path: Path, tokenizer_dir: Path, store_dir: Path):
    store, tokenizer = Store.open(store_dir), WordPiece.load(tokenizer_dir)
    texts = [json.loads(line)["text"] for line in corpus_path.read_text().splitlines()]
    expected = [list(pieces.ids) for pieces in tokenizer.encode(texts)]
    assert [list(store.read(start, stop)) for start, stop in pairwise(store.starts)] == expected


def test_spacy_files_are_read_as_their_text(electra: Invoke, tmp_path: Path, spacy_file: Path, tokenizer_dir: Path):
    electra("tokenize", spacy_file, tmp_path / "store", "--tokenizer", tokenizer_dir)
    store, tokenizer = Store.open(tmp_path / "store"), WordPiece.load(tokenizer_dir)
    assert store.documents == 2
    assert store.manifest.skipped == {"empty": 1}
    expected = [piece for pieces in tokenizer.encode(SENTENCES) for piece in pieces.ids]
    assert list(store.read(0, store.pieces)) == expected


def test_a_folder_may_hold_both_text_and_spacy_files(electra: Invoke, tmp_path: Path, spacy_file: Path):
    (tmp_path / "a.txt").write_text("One more document.")
    assert "documents 3" in electra("debug", "data", spacy_file.parent)


def test_tokenizing_again_changes_nothing_and_another_corpus_is_refused(
    electra: Invoke, complaint: Invoke, tmp_path: Path, spacy_file: Path, tokenizer_dir: Path
):
    store = tmp_path / "store"
    electra("tokenize", spacy_file, store, "--tokenizer", tokenizer_dir)
    before = (store / "manifest.json").read_bytes()
    electra("tokenize", spacy_file, store, "--tokenizer", tokenizer_dir)
    assert (store / "manifest.json").read_bytes() == before
    other = tmp_path / "other.txt"
    other.write_text("Another text than before.")
    assert "a store of another corpus" in complaint("tokenize", other, store, "--tokenizer", tokenizer_dir)
    electra("tokenize", other, store, "--tokenizer", tokenizer_dir, "--overwrite")
    assert Store.open(store).documents == 1


def test_faulty_lines_are_counted_and_shown(electra: Invoke, tmp_path: Path, tokenizer_dir: Path):
    path = tmp_path / "c.jsonl"
    path.write_text('{"text": "The file is found."}\n{"text": \n{"text": ""}\n')
    said = electra("tokenize", path, tmp_path / "store", "--tokenizer", tokenizer_dir)
    assert "1 documents" in said
    assert f"{path}:2:" in said.replace(" ", "")
    listed = [json.loads(line) for line in (tmp_path / "store" / "skipped.jsonl").read_text().splitlines()]
    assert [(one["line"], one["reason"]) for one in listed] == [(2, "broken JSON"), (3, "empty")]


def test_documents_over_the_limit_are_left_out(electra: Invoke, tmp_path: Path, tokenizer_dir: Path):
    path = tmp_path / "c.jsonl"
    path.write_text('{"text": "The file is found."}\n{"text": "The tensor is not found."}\n')
    electra("tokenize", path, tmp_path / "store", "--tokenizer", tokenizer_dir, "--max-length", 20)
    assert Store.open(tmp_path / "store").manifest.skipped == {"too long": 1}
    assert "left out: too long 1" in electra("debug", "data", path, "--max-length", 20)


def test_debug_data_counts_a_corpus_and_what_is_left_out(electra: Invoke, tmp_path: Path):
    path = tmp_path / "c.jsonl"
    path.write_text('{"text": "Four words are here"}\n{"text": " "}\n{"text": "Two words"}\n')
    said = electra("debug", "data", path)
    assert "documents 2" in said
    assert "words 6" in said
    assert "left out: empty 1" in said


def test_debug_data_counts_a_store_and_finds_a_changed_byte(
    electra: Invoke, complaint: Invoke, tmp_path: Path, spacy_file: Path, tokenizer_dir: Path
):
    store = tmp_path / "store"
    electra("tokenize", spacy_file, store, "--tokenizer", tokenizer_dir)
    assert "Every byte is as it was written" in electra("debug", "data", store, "--verify")
    shard = store / "shard-00000.bin"
    content = bytearray(shard.read_bytes())
    content[0] ^= 1
    shard.write_bytes(content)
    assert "shard-00000.bin was changed" in complaint("debug", "data", store, "--verify").replace("shard- ", "shard-")


def test_debug_pieces_shows_places_in_the_text(electra: Invoke, tokenizer_dir: Path):
    said = electra("debug", "pieces", "The  tensor", "--tokenizer", tokenizer_dir)
    tokenizer = WordPiece.load(tokenizer_dir)
    number = tokenizer.vocabulary.index("tensor")
    assert f"tensor {number} 5-11 'tensor'" in said


def test_wrong_paths_are_named(complaint: Invoke, tmp_path: Path, corpus_path: Path, tokenizer_dir: Path):
    nowhere = tmp_path / "nowhere"
    assert "there is no" in complaint("train-tokenizer", nowhere, tmp_path / "t")
    assert "there is no" in complaint("tokenize", nowhere, tmp_path / "s", "--tokenizer", tokenizer_dir)
    assert "there is no folder" in complaint("tokenize", corpus_path, tmp_path / "s", "--tokenizer", nowhere)
    assert "there is no folder" in complaint("debug", "pieces", "text", "--tokenizer", nowhere)
    assert "holds no tokenizer" in complaint("debug", "pieces", "text", "--tokenizer", tmp_path)
    assert "there is no" in complaint("debug", "data", nowhere)
    broken = tmp_path / "broken.spacy"
    broken.write_bytes(b"no docs")
    assert "cannot be read as a .spacy file" in complaint("debug", "data", broken)
    assert "holds a tokenizer already" in complaint("train-tokenizer", corpus_path, tokenizer_dir)


def test_a_vocabulary_can_be_taken_from_weights(electra: Invoke, run_dir: Path, tmp_path: Path):
    text = tmp_path / "text.txt"
    text.write_text("words that are not read", encoding="utf8")
    electra("train-tokenizer", text, tmp_path / "taken", "--from", run_dir / "model-last")
    assert WordPiece.load(tmp_path / "taken").fingerprint == WordPiece.load(run_dir / "tokenizer").fingerprint


@pytest.mark.parametrize(
    ("is_cased", "options", "ignored"),
    [
        (False, ("--cased",), "--cased"),
        (False, ("--cased", "--keep-accents"), "--cased and --keep-accents"),
        (False, ("--strip-accents",), None),
        (True, ("--cased",), None),
        (True, ("--strip-accents",), "--strip-accents"),
        (False, (), None),
    ],
)
def test_options_that_contradict_the_vocabulary_of_a_checkpoint_are_named(
    electra: Invoke, tmp_path: Path, is_cased: bool, options: tuple[str, ...], ignored: str | None
):
    (tmp_path / "c.txt").write_text("Für fur für Fur " * 5, encoding="utf8")
    electra("train-tokenizer", tmp_path / "c.txt", tmp_path / "old", *["--cased"] * is_cased)
    printed = electra("train-tokenizer", tmp_path / "c.txt", tmp_path / "new", "--from", tmp_path / "old", *options)
    assert ("--from ignores" in printed) == (ignored is not None)
    if ignored:
        kind = "cased" if is_cased else "uncased without accents"
        assert f"--from ignores {ignored}: the vocabulary of {tmp_path / 'old'} is {kind}." in " ".join(printed.split())
    assert WordPiece.load(tmp_path / "new").fingerprint == WordPiece.load(tmp_path / "old").fingerprint


def test_two_jobs_and_a_join_write_the_store_of_one(
    electra: Invoke, complaint: Invoke, tmp_path: Path, corpus_path: Path, tokenizer_dir: Path
):
    lines = corpus_path.read_text().splitlines(keepends=True)
    texts = tmp_path / "texts"
    texts.mkdir()
    for number in range(3):
        (texts / f"{number}.jsonl").write_text("".join(lines[number * 10 : number * 10 + 10]))
    DocBin(docs=[spacy.blank("en")(SENTENCES[0])]).to_disk(texts / "last.spacy")
    command = ["tokenize", texts, tmp_path / "store", "--tokenizer", tokenizer_dir]
    electra(*command)
    alone = {path.name: path.read_bytes() for path in (tmp_path / "store").glob("*.*")}
    assert "holds a finished store" in complaint(*command, "--num-shards", 2, "--shard-index", 1)
    shutil.rmtree(tmp_path / "store")
    assert "1 of 2 parts are to come" in electra(*command, "--num-shards", 2, "--shard-index", 1)
    assert "parts are not finished" in complaint(*command, "--num-shards", 2, "--merge")
    assert "run it with --merge" in electra(*command, "--num-shards", 2, "--shard-index", 0)
    assert "31 documents" in electra(*command, "--num-shards", 2, "--merge")
    assert {path.name: path.read_bytes() for path in (tmp_path / "store").glob("*.*")} == alone
    assert not (tmp_path / "store" / "parts").exists()
    assert "whole already" in electra(*command, "--num-shards", 2, "--merge")
    share_out(corpus_files([str(texts)]), jobs=2).part(tmp_path / "store", 1).mkdir(parents=True)
    assert "What is left of parts stays" in electra(*command, "--num-shards", 2, "--merge")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--num-shards", 2), "--num-shards 2 needs --shard-index, 0 to 1, or --merge"),
        (("--num-shards", 2, "--shard-index", 2), "--shard-index 2 is out of range: --num-shards 2 has 0 to 1"),
        (("--num-shards", 2, "--shard-index", 0, "--merge"), "--merge takes the place of --shard-index"),
        (("--num-shards", 2, "--shard-index", 0), "the corpus has only 1"),
    ],
)
def test_options_of_jobs_that_contradict_each_other_are_refused(
    complaint: Invoke, tmp_path: Path, corpus_path: Path, tokenizer_dir: Path, options: tuple[Any, ...], message: str
):
    assert message in complaint("tokenize", corpus_path, tmp_path / "s", "--tokenizer", tokenizer_dir, *options)
    assert not (tmp_path / "s").exists()


def test_a_bad_corpus_leaves_nothing_and_the_store_that_was_there(
    electra: Invoke, complaint: Invoke, tmp_path: Path, spacy_file: Path, tokenizer_dir: Path
):
    bad = tmp_path / "bad.txt"
    bad.write_bytes("café olé".encode("latin-1"))
    assert f"UTF-8 {bad}" in complaint("tokenize", bad, tmp_path / "new", "--tokenizer", tokenizer_dir)
    assert not (tmp_path / "new").exists()
    electra("tokenize", spacy_file, tmp_path / "old", "--tokenizer", tokenizer_dir)
    complaint("tokenize", bad, tmp_path / "old", "--tokenizer", tokenizer_dir, "--overwrite")
    assert Store.open(tmp_path / "old").documents == 2


def test_too_many_faults_stop_and_the_first_three_stand_on_lines_of_their_own(
    run_command: Invoke, electra: Invoke, tmp_path: Path, tokenizer_dir: Path
):
    path = tmp_path / "c.jsonl"
    path.write_text('{"text": "The file is found."}\n' + '{"text": \n' * 4)
    command = ["tokenize", path, tmp_path / "store", "--tokenizer", tokenizer_dir]
    result = run_command(*command, "--max-faults", 3)
    assert result.exit_code == 1
    assert "allow more with --max-faults" in " ".join(result.stderr.split())
    lines = [line.split(": ")[0].strip() for line in result.stderr.splitlines()]
    assert [f"{path}:{number}" for number in (2, 3, 4)] == lines[-3:]
    assert "4 left out" in electra(*command, "--max-faults", 4)


@pytest.mark.parametrize("command", ["train-tokenizer", "tokenize"])
def test_an_output_that_is_a_file_or_below_one_is_refused(
    complaint: Invoke, corpus_path: Path, tokenizer_dir: Path, command: str
):
    options = ["--tokenizer", tokenizer_dir] if command == "tokenize" else ["--vocab-size", 120]
    assert "is a file: give a folder" in complaint(command, corpus_path, corpus_path, *options)
    assert "not a directory. A part of the path is a file" in complaint(
        command, corpus_path, corpus_path / "inside", *options
    )


def test_a_spacy_file_that_is_not_there_is_named(complaint: Invoke, tmp_path: Path):
    assert "none.spacy, expected a file" in complaint("debug", "data", tmp_path / "none.spacy")


def test_a_glob_may_name_spacy_files(electra: Invoke, spacy_file: Path):
    assert "documents 2" in electra("debug", "data", spacy_file.parent / "*.spacy", spacy_file)


def test_an_empty_file_beside_spacy_files_is_put_up_with(electra: Invoke, spacy_file: Path):
    (spacy_file.parent / "empty.txt").write_text("")
    assert "documents 2" in electra("debug", "data", spacy_file.parent)


def test_an_unfinished_store_is_no_corpus(complaint: Invoke, store_dir: Path, tmp_path: Path):
    store = shutil.copytree(store_dir, tmp_path / "store")
    (store / "manifest.json").rename(store / "building.json")
    assert "Its build was interrupted" in complaint("debug", "data", store)


def test_a_tokenizer_of_one_file_is_not_replaced_unasked(
    electra: Invoke, complaint: Invoke, corpus_path: Path, tokenizer_dir: Path, tmp_path: Path
):
    shutil.copy(tokenizer_dir / "vocab.txt", tmp_path)
    command = ["train-tokenizer", corpus_path, tmp_path, "--vocab-size", 100]
    assert "holds a tokenizer already (vocab.txt)" in complaint(*command)
    electra(*command, "--overwrite")
    assert WordPiece.load(tmp_path).size == 100


def test_a_store_does_not_replace_another_tokenizer_unasked(
    electra: Invoke, complaint: Invoke, corpus_path: Path, tokenizer_dir: Path, tmp_path: Path
):
    electra("train-tokenizer", corpus_path, tmp_path / "tokenizer", "--vocab-size", 100)
    command = ["tokenize", corpus_path, tmp_path, "--tokenizer", tokenizer_dir]
    assert "holds another tokenizer" in complaint(*command)
    assert WordPiece.load(tmp_path / "tokenizer").size == 100
    electra(*command, "--overwrite")
    assert WordPiece.load(tmp_path / "tokenizer").size == 120


def test_a_store_below_its_corpus_is_made_again_unchanged(
    electra: Invoke, corpus_path: Path, tokenizer_dir: Path, tmp_path: Path
):
    folder = tmp_path / "corpus"
    folder.mkdir()
    shutil.copy(corpus_path, folder)
    shutil.copytree(tokenizer_dir, folder / "tokenizer")
    command = ["tokenize", folder, folder / "pretrain", "--tokenizer", folder / "tokenizer"]
    electra(*command)
    documents = len(corpus_path.read_text().splitlines())
    assert f"{documents} documents" in electra(*command)


def test_joining_parts_of_another_corpus_is_not_taken_for_done(
    electra: Invoke, complaint: Invoke, corpus_path: Path, tokenizer_dir: Path, tmp_path: Path
):
    options = [tmp_path / "store", "--tokenizer", tokenizer_dir]
    electra("tokenize", corpus_path, *options)
    for name in "ab":
        (tmp_path / "other").mkdir(exist_ok=True)
        (tmp_path / "other" / f"{name}.txt").write_text("The file is found.")
    jobs = ["tokenize", tmp_path / "other", *options, "--num-shards", 2]
    electra(*jobs, "--shard-index", 0, "--overwrite")
    assert "1 of 2 parts are not finished" in complaint(*jobs, "--merge")


def test_every_command_takes_a_runs_model_folder_as_tokenizer(
    electra: Invoke, run_dir: Path, corpus_path: Path, tokenizer_dir: Path, tmp_path: Path
):
    model = run_dir / "model-last"
    electra("tokenize", corpus_path, tmp_path / "store", "--tokenizer", model)
    assert Store.open(tmp_path / "store").load_tokenizer().fingerprint == WordPiece.load(tokenizer_dir).fingerprint
    assert "the" in electra("debug", "pieces", "the file", "--tokenizer", model)
    electra("train-tokenizer", corpus_path, tmp_path / "t", "--from", model)
    assert WordPiece.load(tmp_path / "t").fingerprint == WordPiece.load(tokenizer_dir).fingerprint


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("c.csv", 'Convert it to .jsonl, a line for each row, with the key "text"'),
        ("c.tsv", "delimiter="),
        ("c.html", 'Convert it to .jsonl, one {"text": "..."} a line'),
    ],
)
def test_a_table_is_to_be_converted_and_not_renamed(complaint: Invoke, tmp_path: Path, name: str, told: str):
    (tmp_path / name).write_text("text\nThe file is found.\n")
    message = complaint("debug", "data", tmp_path / name)
    assert told in message
    assert "rename it" not in message


@pytest.mark.parametrize(("name", "delimiter"), [("c.csv", ","), ("c.tsv", "\t")])
def test_the_conversion_that_is_proposed_works(complaint: Invoke, tmp_path: Path, name: str, delimiter: str):
    (tmp_path / name).write_text(f"id{delimiter}text\n1{delimiter}One text.\n", encoding="utf8")
    with pytest.raises(ValueError, match="cannot read") as told:
        corpus_files([str(tmp_path / name)])
    code = str(told.value).split("python -c '")[1].split("' >")[0]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == {"text": "One text."}


@pytest.mark.parametrize(
    ("text", "options", "told"),
    [
        ("バス パス ハス", (), "uncased with accents kept"),
        ("バス パス ハス", ("--strip-accents",), "uncased without accents"),
        ("schön schon", (), "uncased without accents"),
        ("schön schon", ("--keep-accents",), "uncased with accents kept"),
        ("schön schon", ("--cased",), "pieces, cased, into"),
    ],
)
def test_train_tokenizer_says_what_became_of_accents(
    electra: Invoke, tmp_path: Path, text: str, options: tuple[str, ...], told: str
):
    (tmp_path / "c.txt").write_text(f"{text} " * 9, encoding="utf8")
    assert told in electra("train-tokenizer", tmp_path / "c.txt", tmp_path / "t", "--vocab-size", 40, *options)
