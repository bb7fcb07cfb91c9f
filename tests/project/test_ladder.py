"""The ladder itself: what is done, what is not done again, and what is said where something is missing."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import ladder
import psutil
import pytest
import score_pipeline
import spacy
import typer
from ladder import Job, Setup, check_floret, describe, is_finished, make_result, refresh_page, train_arguments
from ladder_cache import COST, Cache, Preparation
from ladder_results import read_result, result_path, write_description, write_result
from ladder_rungs import Rung
from ladder_task import ROOT, RUNGS, read_task
from spacy.tokens import Doc, DocBin
from typer.testing import CliRunner

SOFTWARE = ROOT / "configs" / "ladder" / "software.cfg"
SCORED = {"docs": 3, "words": 20, "scores": {"tag_acc": 0.5}, "words_per_cpu_second": 99.0}
LIMIT = 900  # seconds
POLL = 0.2  # seconds between looks at a file


@pytest.fixture
def setup(tmp_path: Path) -> Setup:
    task = read_task(SOFTWARE, {"task.scores": ["tag_acc"]})
    documents = {key: tmp_path / f"{key}.spacy" for key in ("train", "dev", "test")}
    digests = dict.fromkeys(documents, "0")
    cache = Cache(tmp_path / "made")
    return Setup(task, cache, tmp_path / "runs", tmp_path / "results", documents, digests, keep_models=False)


@pytest.fixture
def job() -> Job:
    weights = Preparation("floret", {}, lambda folder, cache: [], product="")
    return Job(Rung("cnn-floret", "[nlp]\n", ("--training.max_steps", "9"), 9, "--paths.vectors", weights), 2, "made")


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "steps.jsonl"
    scores = {0: 0.1, 50: 0.4, 100: 0.4, 150: 0.3}
    path.write_text("".join(json.dumps({"step": step, "score": score}) + "\n" for step, score in scores.items()))
    return path


def call(*arguments: object, **options: Any) -> tuple[int, str]:
    """Exit status and standard error of the ladder in this process."""
    app = typer.Typer()
    app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(ladder.main)
    done = CliRunner().invoke(app, [str(argument) for argument in arguments], **options)
    return done.exit_code, done.stderr


def test_a_result_has_the_steps_and_the_costs_of_what_was_prepared(setup: Setup, job: Job, log: Path) -> None:
    folder = setup.cache.folder(job.rung.weights)  # type: ignore[arg-type]
    folder.mkdir(parents=True)
    (folder / COST).write_text(json.dumps({"text": 30.0, "pretraining": 90.0}))
    made = make_result(setup, job, SCORED, steps=log, seconds=6.0)
    assert (made.steps, made.best_step) == (150, 50)
    assert (made.cpu_minutes_text, made.cpu_minutes_pretraining, made.cpu_minutes_fine_tuning) == (0.5, 1.5, 0.1)
    assert (made.scores, made.docs, made.fingerprint) == ({"tag_acc": 0.5}, 3, "made")


def test_a_score_that_the_pipeline_has_not_is_named(setup: Setup, job: Job, log: Path) -> None:
    with pytest.raises(ValueError, match="no score 'tag_acc', which the task software asks for"):
        make_result(setup, job, SCORED | {"scores": {}}, steps=log, seconds=6.0)


def test_a_run_is_finished_as_long_as_its_fingerprint_is_the_same(setup: Setup, job: Job, log: Path) -> None:
    assert not is_finished(setup, job)
    path = result_path(setup.results, "software", "cnn-floret", 2)
    write_result(path, make_result(setup, job, SCORED, steps=log, seconds=6.0))
    assert is_finished(setup, job)
    assert not is_finished(setup, replace(job, fingerprint="other"))
    assert not is_finished(setup, replace(job, seed=3))


def test_a_page_that_cannot_be_written_is_told_and_stops_nothing(
    setup: Setup, job: Job, log: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = make_result(setup, job, SCORED, steps=log, seconds=6.0)
    write_description(setup.results, "software", describe(setup.task))
    write_result(result_path(setup.results, "software", "cnn-floret", 2), one)
    refresh_page(setup.results)
    assert (setup.results.parent / "results.md").is_file()
    other = replace(one, seed=3, documents="other")
    write_result(result_path(setup.results, "software", "cnn-floret", 3), other)
    refresh_page(setup.results)
    assert "is not written" in " ".join(capsys.readouterr().out.split())


def test_the_command_of_a_run_names_seed_data_and_weights(setup: Setup, job: Job, tmp_path: Path) -> None:
    (tmp_path / "steps.jsonl").touch()  # of a run that was interrupted
    words = train_arguments(setup, job, tmp_path, ["--paths.vectors", "v"])
    options = dict(zip(words[4::2], words[5::2], strict=True))
    assert options["--system.seed"] == "2"
    assert options["--paths.train"] == str(tmp_path / "train.spacy")
    assert options["--paths.vectors"] == "v"
    assert options["--training.max_steps"] == "9"
    assert (tmp_path / "train.cfg").read_text() == "[nlp]\n"
    assert not (tmp_path / "steps.jsonl").exists()


def test_a_missing_floret_is_told_before_other_work(setup: Setup, job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "floret", None)
    with pytest.raises(ImportError, match=r"pip install -e .*or leave the rung out of --rungs"):
        check_floret(setup.cache, [job])
    check_floret(setup.cache, [replace(job, rung=replace(job.rung, weights=None))])
    setup.cache.ready(job.rung.weights)  # type: ignore[arg-type]
    check_floret(setup.cache, [job])  # its vectors are there


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.cfg"], "there is no task nowhere.cfg"),
        ([SOFTWARE, "--rungs", "cnn,florett"], "unknown rung 'florett': did you mean 'cnn-floret'"),
        ([SOFTWARE, "--seeds", "0,0"], "expected different whole numbers as seeds"),
        ([SOFTWARE, "--pretraining.minuets", "3"], "did you mean 'minutes'"),
        ([SOFTWARE, "--minutes", "3"], "--minutes"),
        ([SOFTWARE, "--task.start", "nowhere"], "to start from: change `start`"),
        ([SOFTWARE.with_name("ewt.cfg"), "--data", "nowhere"], "which is no folder: give --data DIR"),
    ],
)
def test_what_is_wrong_is_said_at_once(arguments: list[object], message: str, tmp_path: Path) -> None:
    status, said = call(*arguments, "--work", tmp_path / "work", "--results", tmp_path / "results")
    assert status == 1
    assert message in said.replace("\n", " ")
    assert not (tmp_path / "results").exists()


def test_a_pipeline_is_scored_and_timed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(score_pipeline, "SECONDS", 0.0)
    nlp = spacy.blank("en")
    nlp.add_pipe("entity_ruler").add_patterns([{"label": "LIB", "pattern": "Redis"}])  # type: ignore[attr-defined]
    nlp.to_disk(tmp_path / "model")
    docs = [
        Doc(nlp.vocab, words=["Redis", "starts"], ents=["B-LIB", "O"]),
        Doc(nlp.vocab, words=["Spring", "ends"], ents=["B-LIB", "O"]),
    ]
    DocBin(docs=docs).to_disk(tmp_path / "test.spacy")
    score_pipeline.main(tmp_path / "model", tmp_path / "test.spacy", tmp_path / "scores.json")
    found = json.loads((tmp_path / "scores.json").read_text())
    assert (found["docs"], found["words"]) == (2, 4)
    assert found["scores"] == pytest.approx({"ents_p": 1.0, "ents_r": 0.5, "ents_f": 2 / 3})
    assert found["words_per_cpu_second"] > 0


TASK = """\
[task]
title = "Tags"
about = "A few sentences."
lang = "en"
components = ["tagger"]
scores = ["tag_acc"]
seeds = [0]
start = "{assets}/electra-tiny"

[make]
train = "convert_conllu.py {assets}/software-dev.conllu {made}/train.spacy"
dev = "convert_conllu.py {assets}/software-dev.conllu {made}/dev.spacy"
test = "convert_conllu.py {assets}/software-dev.conllu {made}/test.spacy"

[paths]
text = "TEXT"
train = "{made}/train.spacy"
dev = "{made}/dev.spacy"
test = "{made}/test.spacy"

[pretraining]
minutes = 0.3
size = "tiny"
vocabulary = "--vocab-size 300"

[pretraining.floret]
dim = 8
bucket = 100
most_epochs = 2

[fine_tuning]
eval_frequency = 2
cnn_options = ""
options = ""

[fine_tuning.steps]
"""


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A task that takes seconds."""
    lines = (ROOT / "assets" / "software-train.conllu").read_text(encoding="utf8").splitlines()
    texts = [line.removeprefix("# text = ") for line in lines if line.startswith("# text = ")]
    records = [json.dumps({"text": " ".join(texts[place : place + 8])}) + "\n" for place in range(len(texts))]
    (tmp_path / "raw.jsonl").write_text("".join(records), encoding="utf8")
    steps = "".join(f"{rung} = 2\n" for rung in RUNGS)
    text = TASK.replace("TEXT", (tmp_path / "raw.jsonl").as_posix()) + steps
    (tmp_path / "small.cfg").write_text(text, encoding="utf8")
    return tmp_path / "small.cfg"


def begin(task: Path, *options: object) -> subprocess.Popen[str]:
    """The ladder as a user starts it."""
    places = ["--work", task.parent / "work", "--results", task.parent / "results"]
    command = [sys.executable, ROOT / "scripts" / "ladder.py", task, *places, *options]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    return subprocess.Popen(
        [str(part) for part in command], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def climb(task: Path, *options: object) -> str:
    """What the ladder said when it had ended well."""
    process = begin(task, *options)
    said, _ = process.communicate(timeout=LIMIT)
    assert process.returncode == 0, said[-4000:]
    return said


@pytest.mark.slow
def test_every_rung_leaves_a_result_and_only_what_is_changed_is_done_again(small: Path) -> None:
    rungs = [rung for rung in RUNGS if rung != "cnn-floret" or find_spec("floret")]
    said = climb(small, "--rungs", ",".join(rungs))
    assert f"0 of {len(rungs)} runs are finished" in said
    results = {rung: read_result(result_path(small.parent / "results", "small", rung, 0)) for rung in rungs}
    for rung, one in results.items():
        assert one.steps == 2
        assert 0 < one.cpu_minutes_fine_tuning < 2
        assert (one.cpu_minutes_text > 0) == (rung not in ("cnn", "cnn-ensemble", "start"))
        assert (one.cpu_minutes_pretraining > 0) == (rung not in ("cnn", "cnn-ensemble", "random", "start"))
    for rung in ("cnn-pretrain", "mlm", "electra", "start-electra"):
        assert 0.25 < results[rung].cpu_minutes_pretraining < 1.0
    page = (small.parent / "results.md").read_text(encoding="utf8")
    assert all(f"| {rung} " in page for rung in rungs)
    assert not list((small.parent / "work" / "runs").rglob("model-*"))
    again = climb(small, "--rungs", ",".join(rungs), "--fine_tuning.steps.cnn", 4)
    assert f"{len(rungs) - 1} of {len(rungs)} runs are finished" in again
    assert read_result(result_path(small.parent / "results", "small", "cnn", 0)).steps == 4
    assert "preparing" not in again


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="sends a signal")
def test_a_ladder_that_is_ended_goes_on_where_it_was_and_leaves_no_process(small: Path) -> None:
    options = ("--rungs", "electra", "--pretraining.minutes", 0.6)
    process, made = begin(small, *options), small.parent / "work" / "prepared"
    end = time.monotonic() + LIMIT
    while not list(made.glob("electra-*/run/config.cfg")):
        assert time.monotonic() < end
        assert process.poll() is None, process.communicate()[0][-4000:]
        time.sleep(POLL)
    (record,) = made.glob("electra-*/process.json")
    at_work = json.loads(record.read_text())["pid"]
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=LIMIT)
    assert process.returncode == 130
    assert "The same command resumes." in said
    assert not psutil.pid_exists(at_work)
    climb(small, *options)
    (log,) = made.glob("electra-*/pretrain.log")
    assert "Resuming at step" in log.read_text(encoding="utf8")
    spent = read_result(result_path(small.parent / "results", "small", "electra", 0)).cpu_minutes_pretraining
    assert spent > 0.6
