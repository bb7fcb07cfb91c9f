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

from spacy_electra.data.packing import Packing, split_documents
from spacy_electra.data.store import Store
from spacy_electra.model.build import build_electra
from spacy_electra.model.optimizer import adamw_v1
from spacy_electra.training.loop import Task
from spacy_electra.training.run import Run, held, restore, train_on_disk
from spacy_electra.training.schedule import Budget
from spacy_electra.training.schema import Training

WINDOW = 24
SOONEST, LATEST = 0.02, 0.6  # seconds that a run has before it is killed


def run_to_the_end(store_folder: str, folder: str, precision: str, steps: str) -> None:
    torch.set_num_threads(1)
    store = Store.open(Path(store_folder))
    optimizer = adamw_v1(1e-3)
    settings = Training(
        max_steps=int(steps),
        max_epochs=0,
        max_minutes=0,
        batch_rows=4,
        micro_batch=0,
        mask_rate=0.15,
        keep_rate=0.15,
        discriminator_weight=50.0,
        warmup=0.1,
        eval_frequency=5,
        dev_rows=8,
        checkpoint_minutes=1e-9,
        keep_checkpoints=2,
        most_skips=20,
        when_diverged="stop",
        score_weights={},
        optimizer=optimizer,
        logger=None,
    )
    split = split_documents(store, seed=0)
    train, dev = (Packing(store, ranges, window=WINDOW, seed=0) for ranges in (split.train, split.dev))
    task = Task(
        model=build_electra(
            objective="electra",
            tokenizer=str(store.directory / "tokenizer"),
            window=WINDOW,
            precision=precision,
            discriminator={"layers": 1, "width": 16, "feed_forward": 32, "heads": 2, "embedding": 16},
            generator={"layers": 1, "width": 8, "feed_forward": 16, "heads": 1},
        ),
        optimizer=optimizer,
        train=train,
        dev=dev,
        special=store.manifest.special,
        budget=Budget(steps=int(steps)),
        settings=settings,
        device=torch.device("cpu"),
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
