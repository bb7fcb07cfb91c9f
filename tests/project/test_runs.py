"""Training several runs and comparing their scores."""

import json
import sys
from pathlib import Path

import pytest
from compare import Sample, as_markdown, check_variants, compare, cost_note, pooled_deviation, read_scores, sample
from measured import ONE_THREAD
from runs import Run, read_cost, read_runs, read_seeds, write_cost, write_runs
from train_runs import Job, check_evaluated, describe_failure, inputs, make_job, read_variants, run_all

ENVIRONMENT = "import os, sys; print(os.environ['OMP_NUM_THREADS']); sys.exit({status})"


def job(folder: Path, *, status: int = 0) -> Job:
    """A job whose process is Python's own, in the place of `spacy train`."""
    weights = folder / "weights"
    weights.mkdir(exist_ok=True)
    (weights / "model.safetensors").write_bytes(b"1")
    program = ENVIRONMENT.format(status=status)
    command = [sys.executable, "-c", program, "train", "all.cfg", "--paths.discriminator", str(weights)]
    return Job(Run("random", 0), folder / "random" / "seed-0", command)


def test_a_run_has_one_thread_and_a_log_of_its_own(tmp_path: Path) -> None:
    (done,) = run_all([job(tmp_path)], processes=2)
    assert done.is_finished
    assert (done.folder / "train.log").read_text() == "1\n"
    assert set(ONE_THREAD.values()) == {"1"}


def test_a_failed_run_is_not_finished_and_its_log_is_shown(tmp_path: Path) -> None:
    (done,) = run_all([job(tmp_path, status=3)], processes=1)
    assert not done.is_finished
    assert describe_failure(done).endswith("ends with\n1")


def test_other_weights_make_a_finished_run_unfinished(tmp_path: Path) -> None:
    (done,) = run_all([job(tmp_path)], processes=1)
    (tmp_path / "weights" / "model.safetensors").write_bytes(b"2")
    assert not done.is_finished


def test_another_command_makes_a_finished_run_unfinished(tmp_path: Path) -> None:
    (done,) = run_all([job(tmp_path)], processes=1)
    assert not Job(done.run, done.folder, [*done.command, "--training.max_steps", "9"]).is_finished


def test_the_inputs_are_the_config_and_what_overrides_name(tmp_path: Path) -> None:
    config, data = tmp_path / "all.cfg", tmp_path / "train.spacy"
    config.touch()
    data.touch()
    overrides = [f"--paths.train={data}", "--training.max_steps", "300"]
    command = make_job(Run("random", 1), config, tmp_path, tmp_path, gpu_id=-1, overrides=overrides).command
    assert inputs(command) == [config, tmp_path, data]
    assert command[command.index("--system.seed") + 1] == "1"


def test_variants_name_folders(tmp_path: Path) -> None:
    assert read_variants([f"random={tmp_path}"]) == {"random": tmp_path}
    with pytest.raises(ValueError, match=r"expected --variant NAME=FOLDER or NAME=FILE\.cfg, but got 'random'"):
        read_variants(["random"])
    for name, what in {"nowhere": "folder with weights", "no.cfg": "config"}.items():
        with pytest.raises(FileNotFoundError, match=f"there is no {what} .*{name} for the variant 'random'"):
            read_variants([f"random={tmp_path / name}"])


def test_a_variant_with_a_config_of_its_own_is_told_the_paths_alone(tmp_path: Path) -> None:
    config, data = tmp_path / "cnn.cfg", tmp_path / "train.spacy"
    config.touch()
    data.touch()
    assert read_variants([f"cnn={config}"]) == {"cnn": config}
    overrides = ["--paths.train", str(data), "--training.max_steps", "9", "--paths.dev=dev", "--components.x.y", "1"]
    made = make_job(Run("cnn", 1), tmp_path / "all.cfg", config, tmp_path, gpu_id=-1, overrides=overrides)
    assert made.command[4:] == [
        *(str(config), "--output", str(tmp_path / "cnn" / "seed-1"), "--gpu-id", "-1", "--system.seed", "1"),
        *("--paths.train", str(data), "--paths.dev=dev"),
    ]
    assert inputs(made.command) == [config, data]


def test_the_processor_time_of_a_run_is_noted(tmp_path: Path) -> None:
    (done,) = run_all([job(tmp_path)], processes=1)
    assert 0 <= read_cost(done.folder) < 1
    write_cost(tmp_path, cpu_minutes=2.345)
    assert read_cost(tmp_path) == pytest.approx(2.35, abs=0.006)
    assert read_cost(tmp_path / "nowhere") == 0.0


def test_the_mean_cost_of_each_variant_is_told_where_all_were_noted() -> None:
    table = {"cnn": [{"docs": 1, "cpu_minutes": 2.0}, {"docs": 1, "cpu_minutes": 3.0}], "start": [{"cpu_minutes": 1.0}]}
    assert cost_note(table) == "CPU-minutes of fine-tuning a run: cnn 2.5, start 1.0.\n"
    assert cost_note(table | {"other": [{"docs": 1}]}) == ""


def test_the_list_of_runs_comes_back(tmp_path: Path) -> None:
    runs = [Run("pretrained", 0), Run("random", 2)]
    write_runs(tmp_path, runs)
    assert read_runs(tmp_path) == runs
    assert runs[1].folder(tmp_path) == tmp_path / "random" / "seed-2"


@pytest.mark.parametrize("text", ["", "0,", "a", "0,0", "-1"])
def test_seeds_are_different_whole_numbers(text: str) -> None:
    with pytest.raises(ValueError, match="different whole numbers"):
        read_seeds(text)


def test_mean_and_deviation_are_in_percent() -> None:
    found = sample([0.50, 0.52, 0.54])  # deviations -2, 0, 2 points: variance (4 + 4) / 2
    assert (found.mean, found.deviation, found.seeds) == (pytest.approx(52.0), pytest.approx(2.0), 3)
    assert sample([0.5]) == Sample(mean=50.0, deviation=0.0, seeds=1)


def test_variances_are_pooled_by_degrees_of_freedom() -> None:
    # (2 * 3^2 + 1 * 6^2) / 3 = 18
    assert pooled_deviation(Sample(0, 3.0, 3), Sample(0, 6.0, 2)) == pytest.approx(18**0.5)


def test_a_gain_is_the_difference_of_means() -> None:
    table = {
        "random": [{"docs": 136, "ents_f": 0.40, "speed": 9.0}, {"docs": 136, "ents_f": 0.44, "speed": 9.0}],
        "pretrained": [{"docs": 136, "ents_f": 0.60, "speed": 9.0}, {"docs": 136, "ents_f": 0.62, "speed": 9.0}],
    }
    (line,) = compare(table, baseline="random")
    assert line.score == "entities (F1)"
    assert line.differences["pretrained"] == pytest.approx(19.0)
    # deviations sqrt(8) and sqrt(2), pooled sqrt(5)
    assert line.pooled["pretrained"] == pytest.approx(5**0.5)


def test_the_table_says_scores_gain_and_number_of_sentences() -> None:
    table = {
        "pretrained": [{"docs": 136, "dep_las": 0.70}, {"docs": 136, "dep_las": 0.74}],
        "random": [{"docs": 136, "dep_las": 0.60}, {"docs": 136, "dep_las": 0.64}],
    }
    text = as_markdown(compare(table, baseline="random"), docs=[136], title="Software", baseline="random")
    assert "| heads and labels (LAS) | 62.0 ± 2.8 | 72.0 ± 2.8 | +10.0 (3.5 pooled deviations) |" in text
    assert "136 documents" in text
    assert "(random 2, pretrained 2)" in text


def test_an_unknown_baseline_is_named() -> None:
    with pytest.raises(ValueError, match="there is no variant 'cnn' to compare with: the variants are random"):
        compare({"random": [{"docs": 1}]}, baseline="cnn")


def test_a_folder_that_lacks_variants_of_another_is_named() -> None:
    runs, others = Path("metrics/runs"), Path("metrics/others")
    check_variants({runs: ["cnn", "start"], others: ["start", "cnn"]})
    message = r"metrics.runs has no runs of cnn, pretrained, but the other folders have"
    with pytest.raises(ValueError, match=message):
        check_variants({others: ["start", "cnn", "pretrained"], runs: ["start"]})


def test_runs_scored_on_different_data_are_refused(tmp_path: Path) -> None:
    runs = [Run("random", 0), Run("random", 1)]
    write_runs(tmp_path, runs)
    for count, run in enumerate(runs, 1):
        path = run.folder(tmp_path).with_suffix(".json")
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({"docs": count, "ents_f": 0.5, "ents_per_type": {}}))
    with pytest.raises(ValueError, match="not scored on the same documents"):
        read_scores(tmp_path)


@pytest.mark.parametrize(("steps", "is_refused"), [(0, False), (99, True), (100, False), (250, False)])
def test_training_that_ends_before_it_is_evaluated_is_refused(tmp_path: Path, steps: int, is_refused: bool) -> None:
    config = tmp_path / "pipeline.cfg"
    config.write_text("[training]\nmax_steps = 20000\neval_frequency = 100\n", encoding="utf8")
    overrides = ["--training.max_steps", str(steps)]
    if not is_refused:
        check_evaluated(config, overrides)
        return
    with pytest.raises(ValueError, match="lower eval_frequency to 99 or less"):
        check_evaluated(config, overrides)
