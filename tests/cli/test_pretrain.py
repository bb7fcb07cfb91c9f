"""`pretrain` from config to run: what it writes and prints, how it is interrupted and resumed."""

import json
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from spacy.util import load_config
from transformers import BertConfig, BertForMaskedLM

Invoke = Callable[..., Any]
Train = Callable[..., Any]

LOGGER = """
import json, os, signal
from pathlib import Path
from spacy import registry

@registry.loggers("test.FileLogger.v1")
def make(path: str, interrupt_at: int = 0):
    def setup(nlp, stdout, stderr):
        lines = [{{"pipeline": [name for name, part in nlp.pipeline if part.is_trainable],
                  "weights": nlp.config["training"]["score_weights"]}}]
        steps = 0

        def log(info):
            nonlocal steps
            steps += 1
            lines.append(info and {{**info, "checkpoints": list(info["checkpoints"])}})
            if steps == interrupt_at:
                os.kill(os.getpid(), signal.{signal})

        return log, lambda: Path(path).write_text(json.dumps(lines))
    return setup
"""


@pytest.fixture
def train(electra: Invoke, pretrain_cfg: Path, tiny: list[str]) -> Train:
    """Run `pretrain` into a folder; what it printed."""

    def run(output: Path, *arguments: Any) -> str:
        return str(electra("pretrain", pretrain_cfg, "--output", output, *tiny, *arguments))

    return run


@pytest.fixture
def refused(complaint: Invoke, pretrain_cfg: Path, tiny: list[str]) -> Train:
    """Run `pretrain` that must be refused; its message."""

    def run(output: Path, *arguments: Any) -> str:
        return str(complaint("pretrain", pretrain_cfg, "--output", output, *tiny, *arguments))

    return run


@pytest.fixture
def file_logger(tmp_path: Path) -> Callable[..., list[str]]:
    """Arguments that log into tmp_path/log.json, and send a signal to the process at a step."""

    def arguments(*, interrupt_at: int = 0, signal: str = "SIGINT") -> list[str]:
        code = tmp_path / "code.py"
        code.write_text(LOGGER.format(signal=signal), encoding="utf8")
        settings = {"@loggers": "test.FileLogger.v1", "path": str(tmp_path / "log.json"), "interrupt_at": interrupt_at}
        return ["--code", str(code), "--training.logger", json.dumps(settings)]

    return arguments


def metrics(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf8").splitlines()]


def last_weights(run: Path) -> dict[str, torch.Tensor]:
    folder = run / "checkpoints" / (run / "latest").read_text(encoding="utf8").strip()
    return load_file(folder / "weights.safetensors") | load_file(folder / "optimizer.safetensors")


def assert_same_run(one: Path, other: Path) -> None:
    assert metrics(one) == metrics(other)
    weights, others = last_weights(one), last_weights(other)
    assert weights.keys() == others.keys()
    assert all(torch.equal(weights[name], others[name]) for name in weights)


# What a run leaves


def test_a_run_leaves_what_the_documentation_says(run_dir: Path) -> None:
    names = {path.name for path in run_dir.iterdir()}
    assert names == {
        *("config.cfg", "resolved.cfg", "tokenizer", "checkpoints", "latest"),
        *("metrics.jsonl", "timings.jsonl", "model-best", "model-last", ".lock"),
    }
    for model in ("model-best", "model-last"):
        names = {path.name for path in (run_dir / model).iterdir()}
        assert names == {"discriminator", "generator", "README.md", "summary.json"}


def test_the_runs_own_config_repeats_the_run(electra: Invoke, run_dir: Path, tmp_path: Path) -> None:
    electra("pretrain", run_dir / "config.cfg", "--output", tmp_path / "again")
    assert_same_run(tmp_path / "again", run_dir)


def test_the_config_is_kept_as_given_and_beside_it_what_auto_chose(run_dir: Path) -> None:
    given, resolved = load_config(run_dir / "config.cfg"), load_config(run_dir / "resolved.cfg")
    assert (given["model"]["precision"], given["training"]["micro_batch_size"]) == ("auto", 0)
    assert resolved["model"]["precision"] in ("fp32", "bf16")
    assert resolved["training"]["micro_batch_size"] == 4
    assert resolved["machine"]["threads"] == torch.get_num_threads()


def test_the_last_line_gives_the_held_out_scores_and_shares_in_percent(train: Train, tmp_path: Path) -> None:
    printed = " ".join(train(tmp_path / "run").split())
    scores = metrics(tmp_path / "run")[-1]["scores"]
    assert f"on held-out rows loss {scores['loss']:.3f}, " in printed
    assert f"auc {100 * scores['auc']:.1f} %" in printed


def test_another_seed_gives_another_run(train: Train, run_dir: Path, tmp_path: Path) -> None:
    train(tmp_path / "run", "--system.seed", 1)
    assert metrics(tmp_path / "run")[0]["losses"] != metrics(run_dir)[0]["losses"]


def test_a_masked_language_model_is_trained_with_its_own_columns(train: Train, tmp_path: Path) -> None:
    printed = train(tmp_path / "run", "--model.objective", "mlm")
    assert "LOSS GENER" in printed
    assert "LOSS DISCR" not in printed
    assert metrics(tmp_path / "run")[-1]["losses"].keys() == {"generator"}
    assert not (tmp_path / "run" / "model-last" / "generator").exists()


def test_a_dev_corpus_of_its_own_leaves_train_whole(train: Train, store_dir: Path, tmp_path: Path) -> None:
    split = train(tmp_path / "split")
    whole = train(tmp_path / "whole", "--paths.dev", store_dir)
    rows = [int(printed.split(" rows of ")[0].split()[-1]) for printed in (split, whole)]
    held_out = [int(printed.split(" held out")[0].split()[-1]) for printed in (split, whole)]
    assert held_out[1] == rows[1] > rows[0] > held_out[0]


def test_a_run_goes_on_from_finished_weights(train: Train, tmp_path: Path) -> None:
    longer = ["--training.max_steps", 60, "--training.optimizer.learn_rate", 0.01, "--training.eval_frequency", 60]
    train(tmp_path / "first", *longer)
    begin = ["--training.max_steps", 1, "--training.warmup", 0.5]
    train(tmp_path / "second", *begin, "--paths.init", tmp_path / "first" / "model-last")
    train(tmp_path / "scratch", *begin)
    after, second, scratch = (metrics(tmp_path / name)[-1] for name in ("first", "second", "scratch"))
    assert second["scores"] == after["scores"]  # the first step has the rate 0
    assert second["losses"]["generator"] < scratch["losses"]["generator"]
    assert second["losses"]["discriminator"] < scratch["losses"]["discriminator"]


# Loggers


def test_spacys_console_logger_prints_every_column(train: Train, tmp_path: Path) -> None:
    lines = train(tmp_path / "run").split("E #")[1]
    for column in ("LOSS GENER", "LOSS DISCR", "AUC", "F1", "PRECISION", "RECALL", "SCORE"):
        assert column in lines
    first, last = metrics(tmp_path / "run")
    for record in (first, last):
        losses = [f"{record['losses'][half]:.2f}" for half in ("generator", "discriminator")]
        auc = f"{100 * record['scores']['auc']:.2f}"
        assert f"{record['epoch']} {record['step']} {losses[0]} {losses[1]} {auc}" in lines


def test_any_logger_gets_the_facts_of_each_evaluation(
    train: Train, file_logger: Callable[..., list[str]], tmp_path: Path
) -> None:
    train(tmp_path / "run", *file_logger(), "--training.score_weights", '{"auc": 0.75, "recall": 0.25, "f1": null}')
    setup, *infos = json.loads((tmp_path / "log.json").read_text(encoding="utf8"))
    assert setup == {
        "pipeline": ["generator", "discriminator"],
        "weights": {"auc": 0.75, "recall": 0.25, "f1": None},
    }
    records = metrics(tmp_path / "run")
    assert [info is None for info in infos] == [True, False, True, False]
    for info, record in zip(infos[1::2], records, strict=True):
        assert info["losses"] == record["losses"]
        assert info["other_scores"] == record["scores"]
        assert (info["step"], info["epoch"]) == (record["step"], record["epoch"])
        assert info["score"] == pytest.approx(0.75 * record["scores"]["auc"] + 0.25 * record["scores"]["recall"])
        assert "output_path" not in info
    assert infos[3]["checkpoints"] == [[info["score"], info["step"]] for info in infos[1::2]]
    assert infos[3]["words"] > infos[1]["words"] > 0


# Interrupted and resumed

INTERRUPTED_AT = 3
LONGER = ["--training.max_steps", "6", "--training.eval_frequency", "2"]


@pytest.mark.parametrize("signal", ["SIGINT", "SIGTERM"])
def test_an_interrupted_run_goes_on_to_the_last_bit(
    run_command: Invoke,
    train: Train,
    file_logger: Callable[..., list[str]],
    pretrain_cfg: Path,
    tiny: list[str],
    tmp_path: Path,
    signal: str,
) -> None:
    output = tmp_path / "a run"
    arguments = [*tiny, *LONGER, *file_logger(interrupt_at=INTERRUPTED_AT, signal=signal)]
    result = run_command("pretrain", pretrain_cfg, "--output", output, *arguments)
    assert result.exit_code == 130
    assert (output / "latest").read_text(encoding="utf8") == "step-00000003\n"
    assert not (output / "model-last").exists()

    command = shlex.split(result.stdout.splitlines()[-1])
    assert command[:4] == ["python", "-m", "spacy", "electra"]
    resumed = run_command(*command[4:], "--training.logger.interrupt_at", 0)
    assert resumed.exit_code == 0, resumed.stderr
    assert "Resuming at step 3" in resumed.stdout
    train(tmp_path / "whole", *LONGER)
    assert_same_run(output, tmp_path / "whole")


def test_a_finished_run_has_nothing_left_to_do(train: Train, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(run)
    before = metrics(run)
    for _ in range(2):
        assert "nothing to do" in train(run, "--resume")
    (run / "model-last").rename(tmp_path / "elsewhere")
    assert "nothing to do" in train(run, "--resume")
    assert (run / "model-last" / "discriminator" / "model.safetensors").is_file()
    assert metrics(run) == before


def test_resume_on_an_empty_folder_starts(train: Train, run_dir: Path, tmp_path: Path) -> None:
    train(tmp_path, "--resume")
    assert_same_run(tmp_path, run_dir)


def test_harmless_changes_are_told_and_accepted(train: Train, tmp_path: Path) -> None:
    train(tmp_path)
    changes = {"training.max_steps": 7, "training.eval_frequency": 3, "training.checkpoint_minutes": 1}
    printed = train(tmp_path, "--resume", *(part for key, value in changes.items() for part in (f"--{key}", value)))
    for key, value in changes.items():
        assert f"{key} was " in printed
        assert f"now it is {value}" in printed
    assert [record["step"] for record in metrics(tmp_path)] == [2, 4, 6, 7]


def test_another_portion_is_taken_from_where_the_run_goes_on(train: Train, tmp_path: Path) -> None:
    train(tmp_path)
    train(tmp_path, "--resume", "--training.max_steps", 7, "--training.micro_batch_size", 2)
    assert load_config(tmp_path / "resolved.cfg")["training"]["micro_batch_size"] == 2


def test_the_start_from_the_corpus_sets_the_words(train: Train, tmp_path: Path) -> None:
    words = {}
    for kind in ("local", "corpus"):
        barely = ("--training.optimizer.learn_rate", 1e-9, "--training.max_steps", 1)
        train(tmp_path / kind, "--model.initialization", kind, *barely)
        words[kind] = last_weights(tmp_path / kind)["embeddings.word.weight"]
    assert (words["local"] - words["corpus"]).abs().max() > 0.01


@pytest.mark.parametrize(
    ("key", "value", "was"),
    [
        ("model.window", 32, 16),
        ("model.discriminator.layers", 3, 2),
        ("model.generator.width", 4, 8),
        ("model.objective", "mlm", "electra"),
        ("system.seed", 1, 0),
        ("training.batch_rows", 2, 4),
    ],
)
def test_a_change_that_the_checkpoint_cannot_follow_is_refused_by_its_key(
    refused: Train, run_dir: Path, key: str, value: Any, was: Any
) -> None:
    message = refused(run_dir, "--resume", f"--{key}", value)
    assert f"was begun with {key} = {was}, but now it is {value}" in message
    assert f"paths.init = {run_dir}/model-last" in message


def test_another_corpus_is_refused_but_a_moved_one_is_not(
    refused: Train, train: Train, electra: Invoke, run_dir: Path, tokenizer_dir: Path, corpus_path: Path, tmp_path: Path
) -> None:
    lines = corpus_path.read_text(encoding="utf8").splitlines(keepends=True)
    for name, kept in (("moved", lines), ("other", lines[1:])):
        (tmp_path / f"{name}.jsonl").write_text("".join(kept), encoding="utf8")
        electra("tokenize", tmp_path / f"{name}.jsonl", tmp_path / name, "--tokenizer", tokenizer_dir)
    assert "nothing to do" in train(run_dir, "--resume", "--paths.train", tmp_path / "moved")
    told = refused(run_dir, "--resume", "--paths.train", tmp_path / "other")
    assert f"was begun with paths.train = other text, but now it is {tmp_path / 'other'} (39 documents, " in told


def test_another_vocabulary_is_refused_when_a_run_goes_on(
    refused: Train, electra: Invoke, run_dir: Path, corpus_path: Path, tmp_path: Path
) -> None:
    electra("train-tokenizer", corpus_path, tmp_path / "t", "--vocab-size", 90)
    electra("tokenize", corpus_path, tmp_path / "store", "--tokenizer", tmp_path / "t")
    paths = ["--paths.train", tmp_path / "store", "--paths.tokenizer", tmp_path / "t"]
    told = refused(run_dir, "--resume", *paths)
    assert "was begun with another vocabulary than paths.tokenizer (120 pieces against 90 pieces, " in told


def test_what_auto_chose_is_used_again(train: Train, tmp_path: Path) -> None:
    train(tmp_path, "--training.max_steps", 2)
    path = tmp_path / "resolved.cfg"
    chosen = load_config(path)["model"]["precision"]
    other = {"fp32": "bf16", "bf16": "fp32"}[chosen]
    path.write_text(path.read_text(encoding="utf8").replace(f'"{chosen}"', f'"{other}"'), encoding="utf8")
    train(tmp_path, "--resume")
    assert load_config(path)["model"]["precision"] == other
    assert load_config(tmp_path / "config.cfg")["model"]["precision"] == "auto"


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
def test_a_compiled_run_ends_where_a_plain_one_does(
    train: Train, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    torch.compiler.reset()
    losses = {}
    for setting in ("false", "true"):
        output = tmp_path / setting
        train(output, "--system.compile", setting, "--model.precision", "fp32")
        assert load_config(output / "resolved.cfg")["system"]["compile"] == (setting == "true")
        losses[setting] = [json.loads(line)["losses"] for line in (output / "metrics.jsonl").read_text().splitlines()]
    assert "without compiling" not in caplog.text
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0
    for plain, compiled in zip(losses["false"], losses["true"], strict=True):
        assert compiled == pytest.approx(plain, rel=1e-3)


def test_a_large_budget_is_told_in_whole_numbers(train: Train, tmp_path: Path):
    budgets = ("--training.max_steps", 1_000_000, "--training.max_minutes", 0.001)
    assert "; 1,000,000 steps or 0.001 minutes on cpu" in train(tmp_path / "run", *budgets)


def test_a_run_starts_from_a_bert_of_another_vocabulary_and_depth(
    electra: Invoke, pretrain_cfg: Path, tiny: list[str], tmp_path: Path
) -> None:
    config = BertConfig(
        vocab_size=40,
        hidden_size=16,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=16,
    )
    BertForMaskedLM(config).save_pretrained(tmp_path / "bert")
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *map(chr, range(97, 123))]
    (tmp_path / "bert" / "vocab.txt").write_text("\n".join(pieces) + "\n", encoding="utf8")
    shape = {"layers": 2, "width": 16, "feed_forward": 32, "heads": 2, "embedding": 16}
    cfg = load_config(pretrain_cfg)
    cfg["paths"]["init"] = str(tmp_path / "bert")
    cfg["model"] |= {"discriminator": shape, "generator": None, "init_layers": [0, 2], "window": 16}
    cfg.to_disk(tmp_path / "start.cfg")
    electra("pretrain", tmp_path / "start.cfg", "--output", tmp_path / "run", *tiny)
    folder = tmp_path / "run" / "model-last" / "discriminator"
    weights = load_file(folder / "model.safetensors")
    assert weights["electra.encoder.layer.1.output.dense.weight"].shape == (16, 32)
    assert "electra.encoder.layer.2.output.dense.weight" not in weights
    assert str(tmp_path / "bert") in (folder.parent / "README.md").read_text(encoding="utf8")
    again = electra("pretrain", tmp_path / "start.cfg", "--output", tmp_path / "run", *tiny, "--resume")
    assert "nothing to do" in again
    assert "auc" in electra("evaluate", tmp_path / "run", cfg["paths"]["train"])


def test_a_run_goes_on_without_the_weights_that_it_began_with(
    electra: Invoke, pretrain_cfg: Path, run_dir: Path, tiny: list[str], tmp_path: Path
) -> None:
    cfg = load_config(pretrain_cfg)
    cfg["paths"]["init"] = str(tmp_path / "start")
    cfg["model"]["window"] = 8  # shorter than the tables of the start
    cfg.to_disk(tmp_path / "start.cfg")
    for name in ("whole", "parts"):
        shutil.copytree(run_dir / "model-last", tmp_path / "start", dirs_exist_ok=True)
        command = ["pretrain", tmp_path / "start.cfg", "--output", tmp_path / name, *tiny]
        steps = "--training.max_steps"
        if name == "parts":
            electra(*command, steps, 2)
            shutil.rmtree(tmp_path / "start")
            command.append("--resume")
        electra(*command, steps, 4)
    one, two = (
        load_file(tmp_path / name / "model-last" / "discriminator" / "model.safetensors") for name in ("whole", "parts")
    )
    assert one.keys() == two.keys()
    assert {name: weight.shape for name, weight in one.items()} == {name: weight.shape for name, weight in two.items()}
    positions = "electra.embeddings.position_embeddings.weight"
    assert len(two[positions]) == 16


def test_older_names_of_keys_stand_for_todays_with_one_warning_each(
    electra: Invoke, pretrain_cfg: Path, tiny: list[str], run_dir: Path, tmp_path: Path
) -> None:
    old_cfg = tmp_path / "old.cfg"
    old_cfg.write_text(pretrain_cfg.read_text(encoding="utf8"), encoding="utf8")
    old_keys = {"micro_batch_size = ": "micro_batch = ", "unmasked_fraction = ": "keep_rate = "}
    rewrite(old_cfg, {**old_keys, 'on_divergence = "rollback"': 'when_diverged = "go back"'})
    options = [*tiny, "--training.most_skips", 7]
    told = electra("pretrain", old_cfg, "--output", tmp_path / "run", *options)
    for old, new in (
        ("micro_batch", "micro_batch_size"),
        ("keep_rate", "unmasked_fraction"),
        ("when_diverged", "on_divergence"),
        ("most_skips", "max_skipped_steps"),
    ):
        assert " ".join(told.split()).count(f"training.{old} is called training.{new} now") == 1
    given = load_config(tmp_path / "run" / "config.cfg")["training"]
    assert (given["on_divergence"], given["max_skipped_steps"]) == ("rollback", 7)
    assert "keep_rate" not in given
    assert_same_run(run_dir, tmp_path / "run")


def test_a_run_of_an_older_version_goes_on_to_the_last_bit(
    run_command: Invoke,
    train: Train,
    file_logger: Callable[..., list[str]],
    pretrain_cfg: Path,
    tiny: list[str],
    tmp_path: Path,
) -> None:
    old = tmp_path / "old"
    arguments = [*tiny, *LONGER, *file_logger(interrupt_at=INTERRUPTED_AT)]
    command = shlex.split(run_command("pretrain", pretrain_cfg, "--output", old, *arguments).stdout.splitlines()[-1])
    old_keys = {"micro_batch_size = ": "micro_batch = ", "unmasked_fraction = ": "keep_rate = "}
    for name in ("config.cfg", "resolved.cfg"):
        rewrite(old / name, old_keys)
    (state,) = old.glob("checkpoints/*/state.json")
    rewrite(
        state,
        {
            '"asked_micro_batch_size"': '"asked_at_once"',
            '"micro_batch_size"': '"rows_at_once"',
            '"lr_scale"': '"rate_share"',
        },
    )
    resumed = run_command(*command[4:], "--training.logger.interrupt_at", 0)
    assert resumed.exit_code == 0, resumed.stderr
    train(tmp_path / "whole", *LONGER)
    assert_same_run(old, tmp_path / "whole")


def rewrite(path: Path, replaced: dict[str, str]) -> None:
    text = path.read_text(encoding="utf8")
    for new, old in replaced.items():
        assert new in text
        text = text.replace(new, old)
    path.write_text(text, encoding="utf8")
