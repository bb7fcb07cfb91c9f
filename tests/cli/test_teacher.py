"""The section [teacher] of a pretraining config: what a run with one writes, how it goes on, what is refused."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from spacy.util import load_config

from spacy_electra.cli.resuming import read_stored_run
from spacy_electra.data.tokenizer.wordpiece import WordPiece
from spacy_electra.model.files.huggingface import save_encoder
from spacy_electra.model.init.pretrained import load_encoder
from spacy_electra.model.network.encoder import Encoder, EncoderShape

Invoke = Callable[..., Any]
Arguments = list[Any]


@pytest.fixture(scope="module")
def teacher_dir(tokenizer_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    tokenizer = WordPiece.load(tokenizer_dir)
    torch.manual_seed(0)
    shape = EncoderShape(layers=3, width=32, feed_forward=32, heads=2, embedding=16, vocab=tokenizer.size, positions=16)
    folder = tmp_path_factory.mktemp("teacher")
    save_encoder(Encoder(shape), tokenizer, folder)
    return folder


@pytest.fixture
def config(pretrain_cfg: Path, teacher_dir: Path, tmp_path: Path) -> Callable[..., Path]:
    """Writes a config whose section [teacher] has these further lines."""

    def write(*lines: str) -> Path:
        section = "\n".join(["", "[teacher]", f'name = "{teacher_dir}"', *lines, ""])
        path = tmp_path / "taught.cfg"
        path.write_text(pretrain_cfg.read_text(encoding="utf8") + section, encoding="utf8")
        return path

    return write


def metrics(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf8").splitlines()]


def weights(run: Path) -> dict[str, torch.Tensor]:
    folder = run / "checkpoints" / (run / "latest").read_text(encoding="utf8").strip()
    return load_file(folder / "weights.safetensors")


def test_a_run_with_a_teacher_has_its_loss_in_records_and_on_the_terminal(
    electra: Invoke, config: Callable[..., Path], tiny: Arguments, run_dir: Path, tmp_path: Path
) -> None:
    printed = electra("pretrain", config(), "--output", tmp_path / "run", *tiny)
    assert "LOSS TEACH" in printed
    assert all(record["losses"]["teacher"] > 0 for record in metrics(tmp_path / "run"))
    assert [record["scores"].keys() for record in metrics(tmp_path / "run")] == [
        record["scores"].keys() for record in metrics(run_dir)
    ]
    taught, alone = weights(tmp_path / "run"), weights(run_dir)
    assert taught.keys() == alone.keys()
    assert not all(torch.equal(taught[name], tensor) for name, tensor in alone.items())
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == sorted(p.name for p in run_dir.iterdir())


def test_a_teacher_whose_work_is_done_leaves_an_empty_column(
    electra: Invoke, config: Callable[..., Path], tiny: Arguments, tmp_path: Path
) -> None:
    printed = electra("pretrain", config("until = 0.5"), "--output", tmp_path / "run", *tiny)
    first, last = metrics(tmp_path / "run")
    assert first["losses"]["teacher"] > 0
    assert "teacher" not in last["losses"]
    assert f"{last['losses']['discriminator']:.2f} 0.00" in printed


def test_the_defaults_of_the_section_are_written_out_and_a_run_goes_on_with_them(
    electra: Invoke, config: Callable[..., Path], tiny: Arguments, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    electra("pretrain", config(), "--output", run, *tiny)
    written = load_config(run / "config.cfg")["teacher"]
    numbers = {"weight": 1.0, "until": 1.0, "layer": None, "student_layer": None, "relation_heads": 16}
    assert {key: value for key, value in written.items() if key != "name"} == numbers
    electra("pretrain", run / "config.cfg", "--output", run, "--resume", "--training.max_steps", 6)
    assert [record["step"] for record in metrics(run)] == [2, 4, 6]
    assert read_stored_run(run) is not None


@pytest.mark.parametrize("change", [("--teacher.weight", 2.0), ("--teacher.layer", 1)])
def test_a_run_goes_on_with_the_teacher_that_it_began_with(
    electra: Invoke,
    complaint: Invoke,
    config: Callable[..., Path],
    pretrain_cfg: Path,
    tiny: Arguments,
    tmp_path: Path,
    change: Arguments,
) -> None:
    run = tmp_path / "run"
    electra("pretrain", config(), "--output", run, *tiny)
    resume = ("--output", run, "--resume", *tiny)
    assert f"begun with {change[0].removeprefix('--')} = " in complaint("pretrain", config(), *resume, *change)
    assert "begun with teacher.weight = 1.0, but now it is None" in complaint("pretrain", pretrain_cfg, *resume)


def test_a_teacher_may_move_but_not_change(
    electra: Invoke, complaint: Invoke, config: Callable[..., Path], teacher_dir: Path, tiny: Arguments, tmp_path: Path
) -> None:
    run, moved = tmp_path / "run", tmp_path / "moved"
    electra("pretrain", config(), "--output", run, *tiny)
    shutil.copytree(teacher_dir, moved)
    resume = ("--output", run, "--resume", "--teacher.name", moved)
    assert "now it is" in electra("pretrain", config(), *resume, *tiny)
    encoder, tokenizer = load_encoder(str(moved))
    with torch.no_grad():
        encoder.body.project.bias[0] += 1.0
    save_encoder(encoder, tokenizer, moved)
    assert "begun with a teacher of other weights than" in complaint("pretrain", config(), *resume, *tiny)


def test_scores_of_a_run_are_asked_without_its_teacher(
    electra: Invoke, config: Callable[..., Path], tiny: Arguments, store_dir: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    electra("pretrain", config(), "--output", run, *tiny)
    text = (run / "config.cfg").read_text(encoding="utf8")
    name = load_config(run / "config.cfg")["teacher"]["name"]
    (run / "config.cfg").write_text(text.replace(name, "gone"), encoding="utf8")
    assert f"{metrics(run)[-1]['scores']['loss']:.4f}" in electra("evaluate", run, store_dir)


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (["wieght = 2.0"], "[teacher] has an unknown key 'wieght': did you mean 'weight'?"),
        (["weight = 0.0"], "teacher.weight: input should be greater than 0, but got 0.0"),
        (["until = 1.5"], "teacher.until: input should be less than or equal to 1, but got 1.5"),
        (["layer = 3"], "[teacher] layer must be from 0 to 2"),
        (["layer = 1.5"], "teacher.layer: input should be a valid integer, but got 1.5"),
        (["relation_heads = 12"], "relation_heads must divide the widths of both, 32 of the teacher and 16"),
    ],
)
def test_a_mistake_in_the_section_is_named(
    complaint: Invoke, config: Callable[..., Path], tiny: Arguments, tmp_path: Path, lines: list[str], told: str
) -> None:
    assert told in complaint("pretrain", config(*lines), "--output", tmp_path / "run", *tiny)
    assert not (tmp_path / "run").exists()


def test_a_section_without_a_name_is_refused(complaint: Invoke, pretrain_cfg: Path, tmp_path: Path) -> None:
    path = tmp_path / "nameless.cfg"
    path.write_text(pretrain_cfg.read_text(encoding="utf8") + "\n[teacher]\nweight = 2.0\n", encoding="utf8")
    assert "[teacher] lacks the key 'name'" in complaint("debug", "config", path)


def test_a_setting_of_a_section_that_is_not_there_is_refused(complaint: Invoke, pretrain_cfg: Path) -> None:
    said = complaint("debug", "config", pretrain_cfg, "--teacher.name", "somewhere")
    assert "--teacher.name: the config has no section [teacher]" in said


def test_debug_config_tells_of_the_teacher(electra: Invoke, config: Callable[..., Path]) -> None:
    said = electra("debug", "config", config("weight = 2.0", "until = 0.8"))
    assert "weight 2, falling to 0 in 80% of the budget" in said
