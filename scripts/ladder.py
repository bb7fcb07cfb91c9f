"""Compare our pipelines with everything else that a user of spaCy could choose, rung by rung, on a task.

Every (rung, seed) that is finished leaves a small JSON in RESULTS/TASK/, and is not done again as long as config, data
and weights are the same; docs/results.md is written from them. What is interrupted begins again at the rung where it
was, and pretraining goes on at its last checkpoint. Several ladders may work in the same folders at once.
Example: nohup python scripts/ladder.py configs/ladder/software.cfg --rungs cnn,start &
Settings of the task may be given behind the options: --pretraining.minutes 60 --fine_tuning.steps.cnn 4000
"""

import shutil
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import srsly
import typer
from compare import SCORES
from floret_vectors import import_floret
from ladder_cache import PRETRAINING, TEXT, Cache, Preparation, claimed, fingerprint_of, run_in
from ladder_page import write_page
from ladder_preparations import FLORET, Preparations, make_data
from ladder_results import (
    Description,
    Result,
    processor,
    read_result,
    result_path,
    versions,
    write_description,
    write_result,
)
from ladder_rungs import Rung, make_rung
from ladder_task import ROOT, RUNGS, Task, filled, read_task
from measured import end_all, interrupted_by_signals
from runs import read_seeds
from spacy.cli._util import parse_config_overrides
from train_runs import digest
from wasabi import msg

from spacy_electra.cli.errors import INTERRUPTED, check_name, clear_errors

LOG = "steps.jsonl"  # what spaCy's logger writes
BEST, LAST = "model-best", "model-last"


@dataclass(frozen=True)
class Setup:
    """A ladder under way: where things are, and what the runs share."""

    task: Task
    cache: Cache
    runs: Path
    results: Path
    documents: dict[str, Path]  # train, dev and test
    digests: dict[str, str]  # of these
    keep_models: bool


@dataclass(frozen=True)
class Job:
    """A run of a rung."""

    rung: Rung
    seed: int
    fingerprint: str

    def __str__(self) -> str:
        return f"{self.rung.name}, seed {self.seed}"


@clear_errors
def main(
    context: typer.Context,
    task: Path = typer.Argument(..., help="The task, a file in configs/ladder/"),
    data: Path = typer.Option("corpus/downloads", envvar="LADDER_DATA", help="Folder with the tasks' published data"),
    work: Path = typer.Option("training/ladder", help="Folder for everything that is made on the way"),
    results: Path = typer.Option("docs/results", help="Folder of the results; the page is beside it"),
    rungs: str = typer.Option(",".join(RUNGS), help="Rungs to climb, separated by commas"),
    seeds: str = typer.Option("", help="Seeds, separated by commas; those of the task where left out"),
    processes: int = typer.Option(1, min=1, help="Programs at once, a core each"),
    keep_models: bool = typer.Option(False, "--keep-models", help="Keep the pipelines that were scored"),
) -> None:
    """Train and score the rungs that are not finished. Further options change settings of the task."""
    described = read_task(task, parse_config_overrides(list(context.args), env_var=None))
    names = [name.strip() for name in rungs.split(",")]
    for name in names:
        check_name(name, RUNGS, what="rung")
    numbers = read_seeds(seeds) if seeds else described.about.seeds
    try:
        with interrupted_by_signals():
            setup, ladder = prepare(described, names, data=data, work=work, results=results, keep_models=keep_models)
            failed = run_all(setup, ladder, numbers, processes=processes)
    except KeyboardInterrupt:
        msg.warn("Interrupted. The same command resumes.")
        raise typer.Exit(INTERRUPTED) from None
    if failed:
        raise ValueError("\n\n".join([f"{len(failed)} runs failed.", *failed]))


def prepare(
    task: Task, names: list[str], *, data: Path, work: Path, results: Path, keep_models: bool
) -> tuple[Setup, list[Rung]]:
    """Make the data of a task, and say what its rungs are. Raises ValueError or OSError for what a user can mend."""
    places, cache = {"data": data.resolve(), "assets": ROOT / "assets"}, Cache(work.resolve() / "prepared")
    start = Path(filled(task.about.start, places)).resolve()
    if not start.is_dir():
        raise FileNotFoundError(f"there is no folder {start} to start from: change `start` in the task's [task].")
    places["made"] = cache.ready(make_data(task, places))
    documents = {key: Path(filled(getattr(task.paths, key), places)) for key in ("train", "dev", "test")}
    text = Path(filled(task.paths.text, places))
    for key, path in {"text": text, **documents}.items():
        if not path.exists():
            raise FileNotFoundError(f"there is no {path}, which the task {task.name} names as paths.{key}.")
    preparations = Preparations(task, text=text, start=start, train=documents["train"])
    setup = Setup(
        task,
        cache,
        runs=work.resolve() / "runs" / task.name,
        results=results,
        documents=documents,
        digests={key: digest(path) for key, path in documents.items()},
        keep_models=keep_models,
    )
    return setup, [make_rung(name, task, preparations) for name in names]


def run_all(setup: Setup, rungs: list[Rung], seeds: list[int], *, processes: int) -> list[str]:
    """Do all that is not finished, and write the page after each run; a text for each run that failed."""
    jobs = [Job(rung, seed, rung.fingerprint(seed=seed, documents=setup.digests)) for rung in rungs for seed in seeds]
    waiting = [job for job in jobs if not is_finished(setup, job)]
    msg.info(f"{setup.task.name}: {len(jobs) - len(waiting)} of {len(jobs)} runs are finished")
    check_floret(setup.cache, waiting)
    failed, pool = [], ThreadPoolExecutor(processes)
    try:
        under_way = {pool.submit(run_job, setup, job): job for job in waiting}
        for future in as_completed(under_way):
            error = future.exception()
            if error is not None and not isinstance(error, ValueError | OSError):
                raise error
            if error is not None:
                msg.fail(f"{setup.task.name}, {under_way[future]} failed")
                failed.append(f"{under_way[future]}: {error}")
            refresh_page(setup.results)
    except KeyboardInterrupt:
        end_all()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
    return failed


def refresh_page(results: Path) -> None:
    """Write the page, or say why it cannot be written as yet; results are safe either way."""
    try:
        write_page(results)
    except ValueError as error:
        msg.warn(f"the page beside {results} is not written: {error}")


def check_floret(cache: Cache, jobs: list[Job]) -> None:
    """Raise ImportError where vectors have to be trained and the package is missing, before hours of other work."""
    weights = [job.rung.weights for job in jobs]
    if any(isinstance(one, Preparation) and one.name == FLORET and not cache.is_ready(one) for one in weights):
        import_floret()


def is_finished(setup: Setup, job: Job) -> bool:
    """Whether there is a result of the same config, data and weights."""
    path = result_path(setup.results, setup.task.name, job.rung.name, job.seed)
    return path.is_file() and read_result(path).fingerprint == job.fingerprint


def run_job(setup: Setup, job: Job) -> None:
    """Prepare, train, score, and write the result. Raises ValueError for a program that failed."""
    folder = setup.runs / job.rung.name / f"seed-{job.seed}"
    with claimed(folder):
        if is_finished(setup, job):  # by another ladder, meanwhile
            return
        weights = job.rung.weights_options(setup.cache)
        msg.info(f"{setup.task.name}, {job}: {job.rung.steps:,} steps at most")
        remove_models(folder)
        seconds = run_in(folder, train_arguments(setup, job, folder, weights), log="train.log")
        scored = folder / "scores.json"
        model, test = str(folder / BEST), str(setup.documents["test"])
        run_in(folder, [str(ROOT / "scripts" / "score_pipeline.py"), model, test, str(scored)], log="score.log")
        result = make_result(setup, job, srsly.read_json(scored), steps=folder / LOG, seconds=seconds)
        write_description(setup.results, setup.task.name, describe(setup.task))
        write_result(result_path(setup.results, setup.task.name, job.rung.name, job.seed), result)
        if not setup.keep_models:
            remove_models(folder)
    told = ", ".join(f"{SCORES[key]} {100 * result.scores[key]:.1f}" for key in setup.task.about.scores)
    msg.good(f"{setup.task.name}, {job}: {told}; {result.cpu_minutes_fine_tuning:.1f} CPU-minutes of fine-tuning")


def train_arguments(setup: Setup, job: Job, folder: Path, weights: list[str]) -> list[str]:
    """`spacy train` for a run, whose config is written into its folder."""
    config = folder / "train.cfg"
    config.write_text(job.rung.config, encoding="utf8")
    (folder / LOG).unlink(missing_ok=True)  # spaCy's logger does not write over it
    paths = ["--paths.train", str(setup.documents["train"]), "--paths.dev", str(setup.documents["dev"])]
    run = ["--output", str(folder), "--system.seed", str(job.seed), "--training.logger.output_file", str(folder / LOG)]
    return ["-m", "spacy", "train", str(config), *run, *paths, *weights, *job.rung.options]


def remove_models(folder: Path) -> None:
    """Remove the pipelines of a run, which take tens of megabytes each."""
    for name in (BEST, LAST):
        shutil.rmtree(folder / name, ignore_errors=True)


def make_result(setup: Setup, job: Job, scored: dict[str, Any], *, steps: Path, seconds: float) -> Result:
    """The result of a run. Raises ValueError where a score of the task is missing."""
    if missing := [key for key in setup.task.about.scores if key not in scored["scores"]]:
        raise ValueError(
            f"the pipeline has no score {missing[0]!r}, which the task {setup.task.name} asks for: its components are "
            f"{', '.join(setup.task.about.components)}, and it was scored on {setup.documents['test']}."
        )
    log = list(srsly.read_jsonl(steps))
    shared = setup.cache.seconds(job.rung.weights) if isinstance(job.rung.weights, Preparation) else {}
    return Result(
        rung=job.rung.name,
        seed=job.seed,
        scores=scored["scores"],
        steps=log[-1]["step"],
        best_step=max(log, key=lambda record: record["score"])["step"],  # the first of equal ones, as spaCy has it
        cpu_minutes_text=round(shared.get(TEXT, 0.0) / 60, 3),
        cpu_minutes_pretraining=round(shared.get(PRETRAINING, 0.0) / 60, 3),
        cpu_minutes_fine_tuning=round(seconds / 60, 3),
        words_per_cpu_second=scored["words_per_cpu_second"],
        docs=scored["docs"],
        words=scored["words"],
        processor=processor(),
        versions=versions(),
        documents=fingerprint_of(setup.digests),
        fingerprint=job.fingerprint,
    )


def describe(task: Task) -> Description:
    return Description(task.about.title, task.about.about, tuple(task.about.scores))


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(main)
    app()
