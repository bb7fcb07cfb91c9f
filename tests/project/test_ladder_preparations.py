"""What rungs are prepared with: fingerprints, commands, the text for spaCy's CNN, and budgets of processor time."""

import json
import os
import runpy
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import spacy
import split_text
from cpu_reader import create_reader
from floret_vectors import epochs_left, import_floret, write_part
from floret_vectors import main as train_floret
from ladder_cache import PRETRAINING, Cache, Preparation, Step, add_cost
from ladder_preparations import Preparations, make_data, resumed
from ladder_rungs import make_rung
from ladder_task import ROOT, RUNGS, Task, read_task
from typer import Exit

from spacy_electra.training import loop

START = ROOT / "assets" / "electra-en"
DOCUMENTS = {"train": "1", "dev": "2", "test": "3"}


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "raw.jsonl"
    path.write_text(json.dumps({"text": "One two three.\nFour five."}) + "\n", encoding="utf8")
    return path


@pytest.fixture
def preparations(text: Path, tmp_path: Path) -> Preparations:
    train = tmp_path / "train.spacy"
    train.write_bytes(b"labels")
    return Preparations(
        read_task(ROOT / "configs" / "ladder" / "software.cfg", {}), text=text, start=START, train=train
    )


def all_of(preparations: Preparations) -> dict[str, Preparation]:
    """Everything but the data, by name."""
    made = [
        preparations.vectors(),
        preparations.tok2vec(),
        preparations.random(),
        *(preparations.pretrained(objective, with_start=False) for objective in ("mlm", "electra")),
        preparations.pretrained("electra", with_start=True),
    ]
    return {one.name: one for one in made}


def with_task(preparations: Preparations, **changes: Any) -> Preparations:
    """The same with other settings of [pretraining]."""
    pretraining = preparations.pretraining.model_copy(update=changes)
    return replace(preparations, task=replace(preparations.task, pretraining=pretraining))


def steps_of(preparation: Preparation, cache: Cache) -> list[Step]:
    folder = cache.folder(preparation)
    folder.mkdir(parents=True)
    return preparation.steps(folder, cache)


def test_the_same_text_elsewhere_gives_the_same_fingerprints(preparations: Preparations, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere" / "other.jsonl"
    elsewhere.parent.mkdir()
    elsewhere.write_bytes(preparations.text.read_bytes())
    moved = all_of(replace(preparations, text=elsewhere))
    assert {name: one.fingerprint for name, one in all_of(preparations).items()} == {
        name: one.fingerprint for name, one in moved.items()
    }


def test_other_text_changes_all_fingerprints(preparations: Preparations, tmp_path: Path) -> None:
    other = tmp_path / "other.jsonl"
    other.write_text('{"text": "Other."}\n')
    changed = all_of(replace(preparations, text=other))
    assert all(one.fingerprint != changed[name].fingerprint for name, one in all_of(preparations).items())


def test_other_minutes_change_what_they_are_spent_on(preparations: Preparations) -> None:
    changed = all_of(with_task(preparations, minutes=99.0))
    same = {name for name, one in all_of(preparations).items() if one.fingerprint == changed[name].fingerprint}
    assert same == {"random"}


def test_other_labels_change_what_is_pretrained_from_the_start_alone(
    preparations: Preparations, tmp_path: Path
) -> None:
    other = tmp_path / "other.spacy"
    other.write_bytes(b"others")
    changed = all_of(replace(preparations, train=other))
    differing = {name for name, one in all_of(preparations).items() if one.fingerprint != changed[name].fingerprint}
    assert differing == {"start-electra"}


def test_from_the_start_labels_are_among_the_rows_and_the_start_in_the_mean(
    preparations: Preparations, tmp_path: Path
) -> None:
    cache, made = Cache(tmp_path / "cache"), preparations.pretrained("electra", with_start=True)
    pieces = made.needs[0]
    _, tokenize, labels = steps_of(pieces, cache)
    store = str(cache.folder(pieces) / "labels")
    assert labels.arguments[-4:] == [str(preparations.train), store, "--tokenizer", tokenize.arguments[-1]]
    run, average = steps_of(made, cache)
    assert run.arguments[run.arguments.index("--corpora.labels.path") + 1] == store
    assert average.arguments[-2:] == ["--start", str(START)]
    assert made.product == "mean/discriminator"


def test_another_vocabulary_is_nothing_to_spacy_and_to_the_start(preparations: Preparations) -> None:
    changed = all_of(with_task(preparations, vocabulary="--vocab-size 99"))
    same = {name for name, one in all_of(preparations).items() if one.fingerprint == changed[name].fingerprint}
    assert same == {"floret", "tok2vec", "start-electra"}


def test_kinds_that_begin_with_nothing_share_their_pieces(preparations: Preparations) -> None:
    pieces = {name: one.needs[0].folder_name for name, one in all_of(preparations).items()}
    assert pieces["random"] == pieces["mlm"] == pieces["electra"] != pieces["start-electra"]
    assert pieces["floret"] == pieces["tok2vec"]


def test_pretraining_is_resumed_by_the_clock_of_the_processor(preparations: Preparations, tmp_path: Path) -> None:
    step, _ = steps_of(preparations.pretrained("electra", with_start=True), Cache(tmp_path / "made"))
    options = dict(zip(step.arguments[4::1], step.arguments[5::1], strict=False))
    assert "--resume" in step.arguments
    assert options["--code"].endswith("cpu_clock.py")
    assert options["--training.max_minutes"] == "10.0"
    assert options["--paths.init"] == str(START)


def test_spacy_pretrain_has_what_is_left_of_its_minutes(preparations: Preparations, tmp_path: Path) -> None:
    cache, one = Cache(tmp_path / "made"), preparations.tok2vec()
    cache.folder(one).mkdir(parents=True)
    add_cost(cache.folder(one), {}, PRETRAINING, 240.0)
    one.steps(cache.folder(one), cache)
    config = spacy.util.load_config(cache.folder(one) / "pretrain.cfg")
    assert config["corpora"]["pretrain"]["minutes"] == pytest.approx(6.0)
    assert config["nlp"]["pipeline"] == ["tok2vec"]


def test_spacy_pretrain_goes_on_from_the_newest_weights(tmp_path: Path) -> None:
    assert resumed(tmp_path) == []
    (tmp_path / "model-last.bin").touch()
    os.utime(tmp_path / "model-last.bin", (9, 9))
    assert resumed(tmp_path) == ["--resume-path", str(tmp_path / "model-last.bin"), "--epoch-resume", "1"]
    (tmp_path / "model-last.bin").unlink()
    for place, name in enumerate(("model0.bin", "model1.bin", "model2.temp.bin")):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (place, place))
    assert resumed(tmp_path) == ["--resume-path", str(tmp_path / "model2.temp.bin"), "--epoch-resume", "2"]


def test_data_are_made_in_a_folder_of_their_own(preparations: Preparations, tmp_path: Path) -> None:
    places = {"data": tmp_path / "nowhere", "assets": ROOT / "assets"}
    data, cache = make_data(preparations.task, places), Cache(tmp_path / "made")
    steps = steps_of(data, cache)
    assert [step.name for step in steps] == ["text", "train", "dev", "test"]
    assert steps[1].arguments[1:] == [
        str(ROOT / "assets" / "software-train.conllu"),
        str(cache.folder(data) / "train.spacy"),
    ]


def test_changed_data_are_made_again(preparations: Preparations, tmp_path: Path) -> None:
    task: Task = replace(preparations.task, make={"train": "convert_iob.py {data}/train.iob {made}/train.spacy"})
    places = {"data": tmp_path, "assets": ROOT / "assets"}
    found = []
    for content in ("a\tO\n", "b\tO\n", "b\tO\n"):
        (tmp_path / "train.iob").write_text(content)
        found.append(make_data(task, places).fingerprint)
    assert found[0] != found[1] == found[2]


def test_a_missing_folder_of_data_is_named(tmp_path: Path) -> None:
    task = read_task(ROOT / "configs" / "ladder" / "ewt.cfg", {})
    with pytest.raises(FileNotFoundError, match=r"ewt reads files below .*nowhere, which is no folder: give --data"):
        make_data(task, {"data": tmp_path / "nowhere", "assets": ROOT / "assets"})


def test_every_rung_has_a_config_of_its_own_or_weights_of_its_own(preparations: Preparations) -> None:
    rungs = [make_rung(name, preparations.task, preparations) for name in RUNGS]
    assert len({rung.fingerprint(seed=0, documents=DOCUMENTS) for rung in rungs}) == len(RUNGS)
    cnn, ensemble, floret, pretrain = (spacy.util.load_config_from_str(rung.config) for rung in rungs[:4])
    assert cnn["components"]["textcat"]["model"]["@architectures"] == "spacy.TextCatBOW.v3"
    assert ensemble["components"]["textcat"] == floret["components"]["textcat"]
    assert ensemble["components"]["tok2vec"] == cnn["components"]["tok2vec"]
    assert cnn["components"]["tok2vec"]["model"]["embed"]["include_static_vectors"] is False
    assert floret["components"]["tok2vec"]["model"]["embed"]["include_static_vectors"] is True
    assert floret["components"]["tok2vec"]["model"]["encode"] == cnn["components"]["tok2vec"]["model"]["encode"]
    assert floret["components"]["textcat"]["model"]["tok2vec"]["@architectures"] == "spacy.Tok2VecListener.v1"
    assert pretrain["pretraining"]["component"] == "tok2vec"
    assert {rung.weights_option for rung in rungs} == {
        None,
        "--paths.vectors",
        "--paths.init_tok2vec",
        "--paths.discriminator",
    }


def test_the_cnn_that_is_pretrained_is_the_one_that_is_fine_tuned(preparations: Preparations, tmp_path: Path) -> None:
    cache, one = Cache(tmp_path / "made"), preparations.tok2vec()
    steps_of(one, cache)
    before = spacy.util.load_config(cache.folder(one) / "pretrain.cfg")["components"]["tok2vec"]
    rung = make_rung("cnn-pretrain", preparations.task, preparations)
    assert spacy.util.load_config_from_str(rung.config)["components"]["tok2vec"] == before


@pytest.mark.parametrize("key", ["seed", "documents", "steps", "config", "options"])
def test_a_run_is_another_where_anything_differs(key: str, preparations: Preparations) -> None:
    rung = make_rung("start", preparations.task, preparations)
    changes: dict[str, Any] = {"seed": 0, "documents": DOCUMENTS}
    first = rung.fingerprint(**changes)
    others = {"seed": 1, "documents": DOCUMENTS | {"dev": "4"}, "steps": 7, "config": "", "options": ()}
    if key in changes:
        assert rung.fingerprint(**changes | {key: others[key]}) != first
    else:
        assert replace(rung, **{key: others[key]}).fingerprint(**changes) != first


def test_text_is_cut_into_paragraphs_and_those_into_spans(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(split_text, "LONGEST", 3)
    path = tmp_path / "raw.jsonl"
    path.write_text(json.dumps({"text": "It doesn't  go.\n\n  One.  \n"}) + "\n")
    found = list(split_text.split(spacy.blank("en"), str(path)))
    assert found == [("It doesn't", ["It", "does", "n't"]), (" go.", ["go", "."]), ("One.", ["One", "."])]


def test_both_files_have_a_span_a_line(text: Path, tmp_path: Path) -> None:
    split_text.main(str(text), tmp_path / "spans", lang="en")
    assert (tmp_path / "spans" / "tokens.txt").read_text() == "One two three .\nFour five .\n"
    lines = (tmp_path / "spans" / "spans.jsonl").read_text().splitlines()
    assert [json.loads(line)["text"] for line in lines] == ["One two three.", "Four five."]


def test_a_reader_ends_the_program_when_its_minutes_are_spent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("signal.signal", lambda number, handler: None)
    (tmp_path / "spans.jsonl").write_text('{"text": "One two."}\n' * 3)
    nlp = spacy.blank("en")
    spent = time.process_time() / 60
    plenty = create_reader(str(tmp_path / "spans.jsonl"), spent + 60, 1, 9)(nlp)
    assert len(list(plenty)) == 3
    documents = create_reader(str(tmp_path / "spans.jsonl"), spent, 1, 9)(nlp)
    assert next(documents).text == "One two."
    with pytest.raises(SystemExit) as ended:
        next(documents)
    assert ended.value.code == 0


def test_the_clock_of_pretraining_becomes_that_of_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "budget_clock", time.monotonic)
    runpy.run_path(str(ROOT / "scripts" / "cpu_clock.py"))
    assert loop.budget_clock is time.process_time


def test_a_missing_floret_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "floret", None)
    with pytest.raises(ImportError, match=r'needs the package floret: pip install -e "\.\[ladder\]"'):
        import_floret()


def test_epochs_follow_from_the_seconds_that_are_left() -> None:
    assert epochs_left(10.0, 2.5) == 4.0
    assert epochs_left(-1.0, 2.5) == 0.0


def test_a_part_is_the_first_lines(tmp_path: Path) -> None:
    (tmp_path / "all.txt").write_text("a\nb\nc\n")
    write_part(tmp_path / "all.txt", tmp_path / "part.txt", lines=2)
    assert (tmp_path / "part.txt").read_text() == "a\nb\n"


def test_floret_learns_a_table_that_spacy_reads(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("floret")
    from spacy.cli.init_pipeline import init_vectors_cli

    (tmp_path / "tokens.txt").write_text("the cat sat on the mat .\n" * 50)
    spent, settings = time.process_time() / 60, {"dim": 8, "bucket": 50, "most_epochs": 3}
    train_floret(tmp_path / "tokens.txt", tmp_path / "v.floret", minutes=spent + 1, **settings)
    assert "3 epochs of 50 of 50 spans" in " ".join(capfd.readouterr().out.split())
    train_floret(tmp_path / "tokens.txt", tmp_path / "v.floret", minutes=0.0, **settings)
    assert "1 epoch of 50 of 50 spans" in " ".join(capfd.readouterr().out.split())
    assert not (tmp_path / "v.part.txt").exists()
    options = {"prune": -1, "truncate": 0, "name": None, "verbose": False, "jsonl_loc": None, "attr": "ORTH"}
    init_vectors_cli("en", tmp_path / "v.floret", tmp_path / "vectors", mode="floret", **options)
    nlp = spacy.load(tmp_path / "vectors")
    assert nlp.vocab.vectors.shape == (50, 8)
    assert nlp("cats")[0].has_vector
    (tmp_path / "empty.txt").touch()
    with pytest.raises(Exit):
        train_floret(tmp_path / "empty.txt", tmp_path / "v.floret", minutes=1.0, **settings)
    assert "is empty, expected tokens" in " ".join(capfd.readouterr().err.split())
