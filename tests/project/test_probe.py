"""The probe: documents held out whole, pieces given to words, scores by hand, and what can be learned is learned."""

import gzip
import json
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

from spacy_electra.data.tokenizer.wordpiece import WordPiece
from spacy_electra.model.files.huggingface import save_encoder
from spacy_electra.model.init.schemes import initialize
from spacy_electra.model.network.encoder import Encoder, EncoderShape

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from probe import Probe, Schedule, main, probe, score, slant
from probe_data import UNSEEN, Head, Labelled, bucket, collate, encode, read_sentiment, read_syntax, spread

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "cannot", "go", "dog", "##s", "ann", "runs", "good", "bad", "."]
WORDS = {"dogs": ("NOUN", "nsubj", "O"), "go": ("VERB", "root", "O"), "Ann": ("PROPN", "obl:agent", "B-PER")}
UPOS = Head("upos", {"NOUN": 0, "VERB": 1})


@pytest.fixture
def tokenizer(tmp_path: Path) -> WordPiece:
    (tmp_path / "vocab.txt").write_text("\n".join(PIECES) + "\n", encoding="utf8")
    (tmp_path / "tokenizer_config.json").write_text('{"do_lower_case": true}', encoding="utf8")
    return WordPiece.load(tmp_path)


@pytest.fixture
def encoder() -> Encoder:
    encoder = Encoder(
        EncoderShape(layers=1, width=16, feed_forward=32, heads=2, embedding=16, vocab=len(PIECES), positions=16)
    )
    initialize(encoder, kind="local", seed=0)
    return encoder


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """40 documents of two sentences; 48 texts whose label is a word."""
    words = list(WORDS.items())
    lines = []
    for number in range(80):
        if number % 2 == 0:
            lines.append(f"# newdoc id = doc-{number // 2}")
        for place in range(3):
            form, (upos, label, entity) = words[(number + place) % 3]
            lines.append(f"{place + 1}\t{form}\t_\t{upos}\t_\t_\t0\t{label}\t_\tname={entity}")
        lines.append("")
    (tmp_path / "ewt").mkdir()
    (tmp_path / "ewt" / "en_ewt-ud-train.conllu.gz").write_bytes(gzip.compress("\n".join(lines).encode("utf8")))
    (tmp_path / "textcat" / "sst2").mkdir(parents=True)
    rows = [{"text": f"dogs {word}", "label": word} for word in ("good", "bad", "bad") for _ in range(16)]
    text = "\n".join(json.dumps(row) for row in rows)
    (tmp_path / "textcat" / "sst2" / "train.jsonl").write_text(text, encoding="utf8")
    return tmp_path


@pytest.fixture
def saved(tmp_path: Path, encoder: Encoder, tokenizer: WordPiece) -> str:
    save_encoder(encoder, tokenizer, tmp_path / "electra")
    return str(tmp_path / "electra")


def test_a_document_is_learned_or_scored_as_a_whole(data: Path) -> None:
    task = read_syntax(data, sentences=1000)
    held_out = sum(zlib.crc32(f"doc-{number}".encode()) % 10 == 0 for number in range(40))
    assert 0 < held_out < 40
    assert (len(task.train), len(task.held_out)) == (80 - 2 * held_out, 2 * held_out)


def test_a_dependency_label_loses_its_subtype(data: Path) -> None:
    assert read_syntax(data, sentences=1000).heads[1].labels == {"nsubj": 0, "obl": 1, "root": 2}


def test_every_eighth_text_is_scored(data: Path) -> None:
    task = read_sentiment(data)
    assert (len(task.train), len(task.held_out)) == (42, 6)
    assert [one.labels[0][0] for one in task.held_out] == ["good", "good", "bad", "bad", "bad", "bad"]


def test_a_choice_is_spread_over_all() -> None:
    items = [Labelled(str(number), (), ()) for number in range(10)]
    assert [one.text for one in spread(items, 4)] == ["0", "2", "5", "7"]
    assert spread(items, 11) == items


def test_words_have_the_pieces_that_overlap_them(tokenizer: WordPiece) -> None:
    text = Labelled("dogs cannot go", ((0, 4), (5, 8), (8, 11), (12, 14)), (("NOUN", "VERB", "ADV", "VERB"),))
    (one,) = encode([text], (UPOS,), tokenizer, window=16)
    assert one.ids.tolist() == [2, 7, 8, 5, 6, 3]  # [CLS] dog ##s cannot go [SEP]
    assert one.pieces.tolist() == [1, 2, 3, 3, 4]  # "can" and "not" share a piece
    assert one.counts.tolist() == [2, 1, 1, 1]
    assert one.answers.tolist() == [[0, 1, UNSEEN, 1]]


def test_a_word_behind_the_window_has_the_last_piece_before(tokenizer: WordPiece) -> None:
    (one,) = encode([Labelled("go go go", ((0, 2), (3, 5), (6, 8)), (("VERB",) * 3,))], (UPOS,), tokenizer, window=4)
    assert one.ids.tolist() == [2, 6, 6, 3]
    assert one.pieces.tolist() == [1, 2, 2]


def test_a_vector_is_the_mean_of_its_pieces_whatever_stands_beside(encoder: Encoder, tokenizer: WordPiece) -> None:
    texts = [
        Labelled("dogs", ((0, 4),), (("NOUN",),)),
        Labelled("go go go dogs .", ((0, 2), (9, 13)), (("VERB", "NOUN"),)),
    ]
    examples = encode(texts, (UPOS,), tokenizer, window=16)
    model = Probe(encoder, (UPOS,))
    (together,) = model(collate(examples, pad=0))
    vectors = encoder(torch.tensor([[2, 7, 8, 3]]))[0]
    expected = model.heads[0]((vectors[1] + vectors[2]) / 2)
    torch.testing.assert_close(together[0], expected)
    torch.testing.assert_close(together[1:], model(collate(examples[1:], pad=0))[0])


def test_batches_hold_every_example_once_and_neighbours_in_length(tokenizer: WordPiece) -> None:
    texts = [Labelled("go " * n, ((0, 2),), (("VERB",),)) for n in (9, 1, 8, 2, 7)]
    batches = bucket(encode(texts, (UPOS,), tokenizer, window=16), size=2, random=np.random.default_rng(0))
    assert sorted(sorted(len(one.ids) - 2 for one in batch) for batch in batches) == [[1, 2], [7, 8], [9]]


def test_f1_counts_what_is_outside_only_where_it_was_mistaken() -> None:
    head = Head("entity", {"B-PER": 0, "I-PER": 1, "O": 2}, outside="O")
    guesses, answers = torch.tensor([0, 1, 2, 2, 0]), torch.tensor([0, 0, 2, 1, 2])
    assert score(head, guesses, answers) == pytest.approx(100 / 3)  # 1 right, 3 guessed, 3 to find


def test_a_label_never_seen_counts_as_wrong() -> None:
    assert score(UPOS, torch.tensor([0, 1, 1, 0]), torch.tensor([0, 1, UNSEEN, UNSEEN])) == 50.0


def test_the_rate_rises_for_a_tenth_and_then_falls_to_nothing() -> None:
    shares = [slant(step, 20) for step in (0, 1, 10, 19, 20)]
    assert shares == pytest.approx([0.5, 0.95, 0.5, 0.05, 0.0])


def test_what_words_tell_is_learned_and_the_encoder_stays(data: Path, encoder: Encoder, tokenizer: WordPiece) -> None:
    before = {name: weight.clone() for name, weight in encoder.state_dict().items()}
    task = read_syntax(data, sentences=1000)
    schedule = Schedule(epochs=8, learn_rate=1e-2)
    learned = probe(encoder, tokenizer, task, schedule=schedule, seed=0)
    assert learned == {"upos": 100.0, "label": 100.0, "entity": 100.0}
    assert all(torch.equal(weight, before[name]) for name, weight in encoder.state_dict().items())
    slow = probe(encoder, tokenizer, task, schedule=Schedule(epochs=1, learn_rate=1e-9), seed=0)
    assert slow["upos"] < 100.0


def test_a_row_is_printed_for_each_model_and_written(
    data: Path, saved: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written = tmp_path / "scores.json"
    arguments = [saved, "random:paper", "--like", saved, "--data", str(data), "--epochs", "2", "--json", str(written)]
    assert main(arguments) == 0
    head, first, second = capsys.readouterr().out.splitlines()
    assert head.split() == ["model", "upos", "label", "entity", "sentiment", "CPU", "seconds"]
    found = json.loads(written.read_text(encoding="utf8"))
    assert found["options"]["seed"] == 0
    for line, (name, row) in zip((first, second), found["scores"].items(), strict=True):
        assert line.split() == [name, *(f"{value:.2f}" for value in row.values())]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "'nowhere' is neither a directory nor"),
        (["random:local"], "add --like DIR"),
        (["random:none", "--like", "x"], "expected random:paper, random:fan_in, random:local"),
        (["x", "--tasks", "syntax,stance"], "there is no task 'stance'"),
        (["x", "--json", "no/such/file.json"], "there is no folder no/such"),
    ],
)
def test_a_command_that_cannot_run_says_why(
    arguments: list[str],
    message: str,
    data: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert main([*arguments, "--data", str(data)]) == 1
    assert message in capsys.readouterr().err


def test_a_missing_treebank_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"en_ewt-ud-train\.conllu, nor one with \.gz"):
        read_syntax(tmp_path, sentences=1)


def test_a_treebank_without_entities_is_refused(data: Path) -> None:
    path = data / "ewt" / "en_ewt-ud-train.conllu.gz"
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()).replace(b"name=B-PER", b"_")))
    with pytest.raises(ValueError, match="expected named entities in the last column"):
        read_syntax(data, sentences=1000)


def test_the_files_that_the_project_fetches_give_the_same_tasks(data: Path) -> None:
    syntax, sentiment = read_syntax(data, sentences=1000), read_sentiment(data)
    packed = data / "ewt" / "en_ewt-ud-train.conllu.gz"
    text = gzip.decompress(packed.read_bytes()).decode("utf8")
    packed.unlink()
    packed.with_suffix("").write_text(text.replace("name=B-PER", "_").replace("name=O", "_"), encoding="utf8")
    tags = [line.split("\t")[1::8] for line in text.splitlines() if not line.startswith("#")]
    (data / "ner" / "uner_en_ewt").mkdir(parents=True)
    rows = ["\t".join([row[0], row[1].removeprefix("name=")]) if row else "" for row in tags]
    (data / "ner" / "uner_en_ewt" / "train.iob").write_text("\n".join(rows), encoding="utf8")
    assert read_syntax(data, sentences=1000) == syntax

    lines = (data / "textcat" / "sst2" / "train.jsonl").read_text(encoding="utf8").splitlines()
    (data / "textcat" / "sst2" / "train.jsonl").unlink()
    numbered = [f"{int(json.loads(line)['label'] == 'good')} {json.loads(line)['text']}" for line in lines]
    (data / "textcat" / "sst2" / "stsa.binary.train").write_text("\n".join(numbered), encoding="utf8")
    fetched = read_sentiment(data)
    assert [one.text for one in fetched.train] == [one.text for one in sentiment.train]
    assert fetched.heads[0].labels == {"negative": 0, "positive": 1}


def test_a_text_without_a_label_is_named(data: Path) -> None:
    path = data / "textcat" / "sst2" / "train.jsonl"
    path.write_text('{"text": "go", "label": "good"}\n{"text": "go"}\n', encoding="utf8")
    with pytest.raises(ValueError, match=r'train\.jsonl:2: expected an object with "text" and "label"'):
        read_sentiment(data)
