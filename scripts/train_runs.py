"""Fine-tune the same pipeline from several weights and seeds, several processes at once, each on one core.

What is finished, with the same command and the same inputs, is skipped; an interrupted run starts again.
A variant is other weights in the same config, or a config of its own, to which the options --paths.… go alone.
Example: python scripts/train_runs.py configs/all.cfg training/software/runs --variant cnn=cnn.cfg
  --variant pretrained=training/software/pretrain/model-last/discriminator --seeds 0,1,2 --processes 2
  --paths.train corpus/software/train.spacy --paths.dev corpus/software/dev.spacy
"""

import hashlib
import json
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path

import typer
from measured import end_of, run_measured
from runs import Run, read_seeds, write_cost, write_runs
from spacy.cli._util import parse_config_overrides
from spacy.util import load_config
from wasabi import msg

from spacy_electra.cli.errors import clear_errors
from spacy_electra.data.atomic import sha256_of

WEIGHTS = "--paths.discriminator"  # the key of the config that a variant changes
CONFIG = 4  # its place in `python -m spacy train CONFIG`
PATHS = "--paths."  # what overrides for every config begin with
FINISHED, LOG = "finished.json", "train.log"


@dataclass(frozen=True)
class Job:
    """A run and how to do it."""

    run: Run
    folder: Path
    command: list[str]

    @property
    def record(self) -> dict[str, object]:
        """What must be the same for a finished run to count: the command, and every file that it names."""
        return {"command": self.command[1:], "inputs": {path.as_posix(): digest(path) for path in inputs(self.command)}}

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(json.dumps(self.record, sort_keys=True).encode("utf8")).hexdigest()

    @property
    def is_finished(self) -> bool:
        path = self.folder / FINISHED
        return path.is_file() and json.loads(path.read_text(encoding="utf8")) == self.record


@clear_errors
def main(
    context: typer.Context,
    config: Path = typer.Argument(..., help="Config for `spacy train`, with paths.discriminator"),
    output: Path = typer.Argument(..., help="Folder of the runs: VARIANT/seed-N"),
    variant: list[str] = typer.Option(
        ..., help="NAME=FOLDER of the transformer's weights, or NAME=FILE.cfg; once for each variant"
    ),
    seeds: str = typer.Option("0,1,2", help="Seeds, separated by commas"),
    processes: int = typer.Option(2, min=1, help="Runs at once"),
    gpu_id: int = typer.Option(-1, help="Number of the GPU; -1 for the CPU"),
) -> None:
    """Train every variant with every seed. Further options, e.g. --training.max_steps 300, go to `spacy train`."""
    if not config.is_file():
        raise FileNotFoundError(f"there is no config {config}.")
    jobs = [
        make_job(Run(name, seed), config, given, output, gpu_id=gpu_id, overrides=context.args)
        for seed in read_seeds(seeds)
        for name, given in read_variants(variant).items()
    ]
    check_evaluated(config, context.args)
    for given in read_variants(variant).values():
        if is_config(given):
            check_evaluated(given, of_paths(context.args))
    waiting = [job for job in jobs if not job.is_finished]
    if len(waiting) < len(jobs):
        msg.info(f"{len(jobs) - len(waiting)} of {len(jobs)} runs in {output} are finished already")
    failed = [job for job in run_all(waiting, processes=processes) if not job.is_finished]
    if failed:
        raise ValueError(f"{len(failed)} of {len(waiting)} runs failed: {describe_failure(failed[0])}")
    write_runs(output, sorted(replace(job.run, made_from=job.fingerprint) for job in jobs))


def read_variants(variants: list[str]) -> dict[str, Path]:
    """Name and folder or config of each variant. Raises ValueError for another form, FileNotFoundError for no such."""
    pairs = {}
    for text in variants:
        name, _, given = text.partition("=")
        if not (name and given and Path(name).name == name):
            raise ValueError(f"expected --variant NAME=FOLDER or NAME=FILE.cfg, but got {text!r}.")
        if not (Path(given).is_file() if is_config(Path(given)) else Path(given).is_dir()):
            what = "config" if is_config(Path(given)) else "folder with weights"
            raise FileNotFoundError(f"there is no {what} {given} for the variant {name!r}.")
        pairs[name] = Path(given)
    return pairs


def check_evaluated(config: Path, overrides: list[str]) -> None:
    """Raise ValueError where training ends before the first evaluation: the best pipeline would be the untrained one.

    config: for `spacy train`. overrides: as the command line has them.
    """
    training = load_config(config, overrides=parse_config_overrides(list(overrides), env_var=None))["training"]
    steps, frequency = training["max_steps"], training["eval_frequency"]
    if 0 < steps < frequency:
        raise ValueError(
            f"{config}: training ends after {steps} steps (training.max_steps), but evaluates every {frequency} "
            f"(training.eval_frequency). The best pipeline would be the untrained one: lower eval_frequency to {steps} "
            f"or less, or raise max_steps."
        )


def is_config(given: Path) -> bool:
    """Whether a variant has a config of its own."""
    return given.suffix == ".cfg"


def make_job(run: Run, config: Path, given: Path, output: Path, *, gpu_id: int, overrides: list[str]) -> Job:
    """The command of a run. given: the variant's weights, or its config."""
    folder = run.folder(output)
    if is_config(given):
        config, weights, overrides = given, [], of_paths(overrides)
    else:
        weights = [WEIGHTS, str(given)]
    command = [sys.executable, "-m", "spacy", "train", str(config), "--output", str(folder), "--gpu-id", str(gpu_id)]
    return Job(run, folder, [*command, *weights, "--system.seed", str(run.seed), *overrides])


def of_paths(overrides: list[str]) -> list[str]:
    """Those of the overrides that name paths, with their values."""
    answer: list[str] = []
    for place, part in enumerate(overrides):
        before = overrides[place - 1] if place else ""
        is_value = before.startswith(PATHS) and "=" not in before and not part.startswith("--")
        if part.startswith(PATHS) or is_value:
            answer.append(part)
    return answer


def run_all(jobs: list[Job], *, processes: int) -> Iterator[Job]:
    """Do the jobs, at most `processes` at once, and give each when it has ended, well or not."""
    pool = ThreadPoolExecutor(processes)
    try:
        for ended in as_completed([pool.submit(run_one, job) for job in jobs]):
            yield ended.result()
    finally:
        pool.shutdown(cancel_futures=True)  # after Ctrl-C, no further one begins


def run_one(job: Job) -> Job:
    """Run a job's process, its output in a log of its own; a record is left where it succeeds."""
    job.folder.mkdir(parents=True, exist_ok=True)
    (job.folder / FINISHED).unlink(missing_ok=True)
    record = job.record
    ended = run_measured(job.command, job.folder / LOG)
    if ended.status == 0:
        write_cost(job.folder, cpu_minutes=ended.cpu_seconds / 60)
        (job.folder / FINISHED).write_text(json.dumps(record, indent=2) + "\n", encoding="utf8")
        msg.good(f"{job.run.variant}, seed {job.run.seed}: {ended.cpu_seconds / 60:.1f} CPU-minutes")
    return job


def describe_failure(job: Job) -> str:
    """The end of a log, and where it lies."""
    path = job.folder / LOG
    return f"{job.run.variant} with seed {job.run.seed}, whose log {path} ends with\n{end_of(path)}"


def inputs(command: list[str]) -> list[Path]:
    """The files and folders that a command reads: its config, and what its overrides name."""
    values = [part for override in command[CONFIG + 1 :] for part in override.split("=", 1)]
    output = command[command.index("--output") + 1] if "--output" in command else None
    return [path for path in map(Path, [command[CONFIG], *values]) if path.exists() and str(path) not in (output, ".")]


def digest(path: Path) -> str:
    """sha256 of a file, or of the files of a folder and their names."""
    total = hashlib.sha256()
    for file in [path] if path.is_file() else sorted(one for one in path.rglob("*") if one.is_file()):
        total.update(file.relative_to(path).as_posix().encode("utf8"))
        total.update(sha256_of(file).encode("ascii"))
    return total.hexdigest()


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(main)
    app()
