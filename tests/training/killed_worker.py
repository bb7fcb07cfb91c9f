"""Run a pretraining again and again, killing it at random moments, until it may end.

python tests/training/killed_worker.py STORE FOLDER PRECISION STEPS RANKS KILLS

Prints how many of the kills met a run that was not finished. The parent only waits and kills; its forks run. Of several
ranks one is killed, and the others shortly after, as torchrun does it.
"""

import os
import random
import signal
import socket
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import torch
from worker_task import small_task

from spacy_electra.data.store.reader import Store
from spacy_electra.training.distributed import join, leave
from spacy_electra.training.run import Run, held, restore, train_on_disk

SOONEST, LATEST = 0.02, 0.6  # seconds that a run has before it is killed
NOTICED = 0.1  # seconds that the other ranks have after that


def run_to_the_end(store_folder: str, folder: str, precision: str, steps: str) -> None:
    torch.set_num_threads(1)
    store = Store.open(Path(store_folder))
    context = small_task(
        store,
        ranks=join(),
        precision=precision,
        max_steps=int(steps),
        batch_rows=4,
        micro_batch_size=0,
        eval_frequency=5,
        checkpoint_minutes=1e-9,
    )
    run = Run(Path(folder), store.load_tokenizer(), {"version": "1", "objective": "electra"})
    with held(run.folder) if context.ranks.is_first else nullcontext():
        for _ in train_on_disk(run, context, restore(context, run.folder)):
            pass
    leave()


def start(arguments: list[str], ranks: int) -> list[int]:
    """The numbers of as many forks, which run to the end together."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return [fork(arguments, rank, ranks, port) for rank in range(ranks)]


def fork(arguments: list[str], rank: int, ranks: int, port: int) -> int:
    child = os.fork()
    if child:
        return child
    try:
        if ranks > 1:
            numbers = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": ranks, "MASTER_PORT": port}
            os.environ.update({name: str(number) for name, number in numbers.items()}, MASTER_ADDR="127.0.0.1")
        run_to_the_end(*arguments)
    except BaseException as error:  # a fork must not go on with its parent's work
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        os._exit(1)
    os._exit(0)


def ends(children: list[int]) -> list[int]:
    """How each process ended, as `os.waitstatus_to_exitcode` has it."""
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


def main(*arguments: str) -> None:
    *given, ranks, kills = arguments
    draw, met, finished = random.Random(0), 0, Path(given[1]) / "model-last"
    for _ in range(int(kills)):
        children = start(given, int(ranks))
        time.sleep(draw.uniform(SOONEST, LATEST * int(ranks)))
        killed = draw.randrange(len(children))
        os.kill(children[killed], signal.SIGKILL)
        time.sleep(NOTICED)  # then those that are left are ended, as torchrun does: they may wait for one to come
        for child in children:
            os.kill(child, signal.SIGKILL)
        codes = ends(children)
        met += codes[killed] == -signal.SIGKILL and not finished.exists()
        if len(children) == 1 and codes[0] > 0:
            sys.exit(1)
    codes = ends(start(given, int(ranks)))
    print(met)
    sys.exit(max(map(abs, codes)))


if __name__ == "__main__":
    main(*sys.argv[1:])
