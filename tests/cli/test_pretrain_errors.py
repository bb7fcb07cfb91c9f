"""Each mistake before a run gets one message that names it, and leaves no run behind."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

Invoke = Callable[..., Any]

TAKE_LOCK = "import os, sys, filelock; lock = filelock.FileLock(sys.argv[1]); lock.acquire()"
Refused = Callable[..., str]


@pytest.fixture
def refused(complaint: Invoke, pretrain_cfg: Path, tiny: list[str], tmp_path: Path) -> Refused:
    """Run `pretrain` that must be refused before it writes anything; its message."""

    def run(*arguments: Any) -> str:
        output = tmp_path / "run"
        message = str(complaint("pretrain", pretrain_cfg, "--output", output, *tiny, *arguments))
        assert not output.exists()
        return message

    return run


@pytest.mark.parametrize(
    ("section", "key", "nearest"),
    [
        ("training", "max_stepz", "max_steps"),
        ("system", "sede", "seed"),
        ("model", "widnow", "window"),
        ("model.generator", "widht", "width"),
        ("model.discriminator", "feedforward", "feed_forward"),
        ("training.optimizer", "learning_rate", "learn_rate"),
        ("training.logger", "progressbar", "progress_bar"),
    ],
)
def test_a_misspelt_key_is_refused_with_the_nearest_valid_one(
    refused: Refused, section: str, key: str, nearest: str
) -> None:
    message = refused(f"--{section}.{key}", 3)
    assert f"[{section}] has an unknown key '{key}': did you mean '{nearest}'?" in message


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("[paths]\n", "section 'paths' already exists"),
        ("[more]\na = 1\na = 2\n", "option 'a' in section 'more' already exists"),
        ("[more]\na = ${paths.init\n", "${paths.init"),
        ("[more]\nno value\n", "no value"),
    ],
)
def test_a_config_that_cannot_be_read_is_named_with_what_is_wrong(
    complaint: Invoke, pretrain_cfg: Path, tmp_path: Path, line: str, told: str
) -> None:
    path = tmp_path / "broken.cfg"
    path.write_text(pretrain_cfg.read_text(encoding="utf8") + line, encoding="utf8")
    message = complaint("pretrain", path, "--output", tmp_path / "run")
    assert f"{path} is no config:" in message
    assert told in message


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--training.max_steps", 0], "max_steps, max_epochs and max_minutes are all 0"),
        (["--training.max_steps", "many"], "training.max_steps: input should be a valid integer"),
        (["--system.gpu_allocator", "tensorflow"], 'system.gpu_allocator: must be "pytorch" or null, as'),
        (["--model.discriminator.embedding", 15], "embedding must be even, but got 15"),
        (["--model.objective", "bert"], "model.objective: 'bert' is none of 'electra', 'mlm'"),
        (["--model.window", "wide"], "model.window: 'wide' is not"),
        (["--training.optimizer.beta1", "high"], "training.optimizer.beta1: 'high' is not"),
        (["--training.optimizer.learn_rate", "fast"], "training.optimizer.learn_rate must be a number"),
        (["--training.optimizer.@optimizers", "SGD.v1"], "[training.optimizer] has 5 unknown keys: 'beta1', 'beta2'"),
        (["--training.optimizer", '{"@optimizers": "SGD.v1", "learn_rate": 0.1}'], "the optimizer is SGD"),
        (
            ["--training.optimizer.learn_rate", '{"@schedules": "constant.v1", "rate": 0.1}'],
            "training.optimizer.learn_rate must be a number",
        ),
        (["--training.logger", "null"], "[training.logger] must name a registered function"),
        (["--model.@architectures", "spacy-electra.Elektra.v1"], "Elektra"),
        (["--paths.train", "nowhere"], "nowhere holds no finished store"),
        (["--paths.tokenizer", "nowhere"], "nowhere"),
        (["--paths.init", "nowhere"], "'nowhere' is neither a directory nor a model"),
    ],
)
def test_a_wrong_value_is_refused(
    refused: Refused, monkeypatch: pytest.MonkeyPatch, arguments: list[Any], message: str
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert message in refused(*arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--pathz.train", "x"], "unknown section 'pathz': did you mean 'paths'?"),
        (["--paths.trian", "x"], "[paths] has a key 'trian' that nothing uses: did you mean 'train'?"),
        (["--training.score_weights.auk", 1.0], "[training.score_weights] has a key 'auk' that nothing uses"),
        (["--training.max_steps"], "--training.max_steps needs a number, such as --training.max_steps 0, but got true"),
        (["--model.discriminator.layers", "two"], "layers: 'two' is not a value of type int"),
        (["--gpu-id", -7], "--gpu-id must be the number of a GPU, or -1 for the CPU, but got -7"),
        (["--paths.init", "/does/not/exist"], "there is no directory '/does/not/exist', expected one that holds"),
        (["--paths.init", "./nowhere/x"], "there is no directory './nowhere/x'"),
        (["--paths.init", __file__], "is a file, expected the directory that holds config.json"),
    ],
)
def test_what_was_taken_for_something_else_is_refused(refused: Refused, arguments: list[Any], message: str) -> None:
    assert message in refused(*arguments)


def test_a_run_given_as_weights_names_its_model(refused: Refused, run_dir: Path) -> None:
    assert f"Give {run_dir / 'model-last'}." in refused("--paths.init", run_dir)


def test_a_path_that_a_variable_uses_may_have_any_name(
    electra: Invoke, pretrain_cfg: Path, tiny: list[str], store_dir: Path, tmp_path: Path
) -> None:
    text = pretrain_cfg.read_text().replace(
        f'train = "{store_dir}"', f'train = ${{paths.trains}}\ntrains = "{store_dir}"'
    )
    (tmp_path / "p.cfg").write_text(text)
    assert "is valid" in electra("debug", "config", tmp_path / "p.cfg", *tiny)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x1f\x8b\x08", "x.cfg is no config: it is not UTF-8 text"),
        (b'{"text": "a"}', "x.cfg is no config"),
        (b'[nlp]\nlang = "en"\n', "describes a pipeline ([nlp]), expected a pretraining config"),
    ],
)
def test_a_file_that_is_no_pretraining_config_is_named(
    complaint: Invoke, tmp_path: Path, content: bytes, message: str
) -> None:
    (tmp_path / "x.cfg").write_bytes(content)
    assert message in complaint("pretrain", tmp_path / "x.cfg", "--output", tmp_path / "run")
    assert "is a folder, expected a config" in complaint("pretrain", tmp_path, "--output", tmp_path / "run")


def test_an_output_below_a_file_is_refused(complaint: Invoke, pretrain_cfg: Path, tiny: list[str]) -> None:
    message = complaint("pretrain", pretrain_cfg, "--output", pretrain_cfg / "run", *tiny)
    assert "not a directory. A part of the path is a file" in message


@pytest.mark.skipif(torch.cuda.is_available() or torch.backends.mps.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there_is_refused(refused: Refused) -> None:
    assert "--gpu-id 0 asks for a GPU, but torch" in refused("--gpu-id", 0)


def test_a_store_of_another_vocabulary_is_refused(
    refused: Refused, electra: Invoke, corpus_path: Path, tmp_path: Path
) -> None:
    electra("train-tokenizer", corpus_path, tmp_path / "other", "--vocab-size", 90)
    told = refused("--paths.tokenizer", tmp_path / "other")
    assert "was made with another vocabulary than the one given (120 pieces against 90 pieces, " in told
    assert "tokenize --overwrite" in told


def test_a_window_longer_than_the_positions_of_the_weights_is_refused(refused: Refused, run_dir: Path) -> None:
    message = refused("--paths.init", run_dir / "model-last", "--model.window", 32)
    assert "window=32 is longer than the 16 positions" in message


def test_names_of_scores_are_free(electra: Invoke, pretrain_cfg: Path, tiny: list[str], tmp_path: Path) -> None:
    electra("pretrain", pretrain_cfg, "--output", tmp_path / "run", *tiny, "--training.score_weights.mine", 1.0)
    assert (tmp_path / "run" / "model-last").is_dir()


def test_a_config_that_is_not_there_is_refused(complaint: Invoke, tmp_path: Path) -> None:
    message = complaint("pretrain", tmp_path / "no.cfg", "--output", tmp_path / "run")
    assert "there is no config" in message
    assert "init-config" in message


def test_a_folder_with_a_run_is_refused_without_resume(
    complaint: Invoke, pretrain_cfg: Path, tiny: list[str], run_dir: Path
) -> None:
    before = {path: path.stat().st_mtime_ns for path in run_dir.rglob("*")}
    assert "add --resume" in complaint("pretrain", pretrain_cfg, "--output", run_dir, *tiny)
    assert {path: path.stat().st_mtime_ns for path in run_dir.rglob("*")} == before


def test_an_output_that_is_a_file_is_refused(complaint: Invoke, pretrain_cfg: Path, tiny: list[str]) -> None:
    message = complaint("pretrain", pretrain_cfg, "--output", pretrain_cfg, *tiny)
    assert "is a file: give a folder to --output" in message


def test_a_damaged_checkpoint_is_refused_with_a_way_out(
    complaint: Invoke, electra: Invoke, pretrain_cfg: Path, tiny: list[str], tmp_path: Path
) -> None:
    electra("pretrain", pretrain_cfg, "--output", tmp_path, *tiny)
    (tmp_path / "checkpoints" / "step-00000004" / "weights.safetensors").write_bytes(b"")
    message = complaint("pretrain", pretrain_cfg, "--output", tmp_path, *tiny, "--resume")
    assert "can be read, the newest is step-00000004" in message
    assert "copy a whole one back" in message


def test_a_folder_that_another_process_writes_into_is_refused(
    complaint: Invoke, pretrain_cfg: Path, tiny: list[str], tmp_path: Path
) -> None:
    holder = f"{TAKE_LOCK}; print('held', flush=True); input()"
    command = [sys.executable, "-c", holder, str(tmp_path / ".lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"held\n"
        message = complaint("pretrain", pretrain_cfg, "--output", tmp_path, *tiny)
        process.kill()
    assert f"another process is writing into {tmp_path}" in message
    assert not (tmp_path / "config.cfg").exists()


def test_a_lock_of_a_process_that_was_killed_holds_nobody_up(
    electra: Invoke, pretrain_cfg: Path, tiny: list[str], tmp_path: Path
) -> None:
    holder = f"{TAKE_LOCK}; os.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", holder, str(tmp_path / ".lock")], check=False)
    assert (tmp_path / ".lock").exists()
    assert "4 steps in" in electra("pretrain", pretrain_cfg, "--output", tmp_path, *tiny)


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("window", 10_000_000, "for one row of 10,000,000 pieces"),
        ("discriminator.width", 1_000_000, "for weights, gradients and moments"),
        ("discriminator.layers", 10_000_000, "for weights, gradients and moments"),
        ("discriminator.width", 10**9, "width must be a whole number from 1 to 16,777,216"),
        ("window", 10**9, "window must be at most 16,777,216 pieces"),
    ],
)
def test_a_model_that_no_memory_holds_is_refused_with_the_numbers(
    refused: Refused, key: str, value: int, told: str
) -> None:
    message = refused(f"--model.{key}", value)
    assert told in message
    if value < 10**9:
        assert "GB at the least" in message
        assert " GB are free: choose a shorter model.window" in message
