"""Run a pretraining again and again, killing it at random moments, until it may end.

python tests/training/killed_worker.py STORE FOLDER PRECISION STEPS KILLS

Prints how many of the kills met a run that was not finished. The parent only waits and kills; its forks run.
"""

import os
import random
import signal
import sys
import time
from pathlib import Path

import torch
from worker_task import small_task

from spacy_electra.data.store import Store
from spacy_electra.training.run import Run, held, restore, train_on_disk

SOONEST, LATEST = 0.02, 0.6  # seconds that a run has before it is killed


def run_to_the_end(store_folder: str, folder: str, precision: str, steps: str) -> None:
    torch.set_num_threads(1)
    store = Store.open(Path(store_folder))
    task = small_task(
        store,
        precision=precision,
        max_steps=int(steps),
        batch_rows=4,
        micro_batch=0,
        eval_frequency=5,
        checkpoint_minutes=1e-9,
    )
    run = Run(Path(folder), store.load_tokenizer(), {"version": "1", "objective": "electra"})
    with held(run.folder):
        for _ in train_on_disk(run, task, restore(task, run.folder)):
            pass


def start(arguments: list[str]) -> int:
    """The number of a fork that runs to the end."""
    child = os.fork()
    if child:
        return child
    try:
        run_to_the_end(*arguments)
    except BaseException as error:  # a fork must not go on with its parent's work
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        os._exit(1)
    os._exit(0)


def main(*arguments: str) -> None:
    *given, kills = arguments
    draw, met, finished = random.Random(0), 0, Path(given[1]) / "model-last"
    for _ in range(int(kills)):
        child = start(given)
        time.sleep(draw.uniform(SOONEST, LATEST))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        met += os.WIFSIGNALED(status) and not finished.exists()
        if os.WIFEXITED(status) and os.WEXITSTATUS(status):
            sys.exit(1)
    _, status = os.waitpid(start(given), 0)
    print(met)
    sys.exit(os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    main(*sys.argv[1:])
