"""What the tests of several ranks run, in one process or as torchrun starts it: short runs whose weights are saved.

python -m torch.distributed.run --nproc-per-node 2 tests/training/ranks_worker.py STORE FOLDER
"""

import sys
import zlib
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from worker_task import small_task

from spacy_electra.data.store.reader import Store
from spacy_electra.model.network.electra import Electra
from spacy_electra.training.context import RunContext
from spacy_electra.training.distributed import join, leave
from spacy_electra.training.loop import pretrain
from spacy_electra.training.run import Run, restore, save_state, train_on_disk
from spacy_electra.training.state import State

STEPS, ROWS = 20, 5  # rows that two ranks cannot share evenly
FIRST_STOP, SECOND_STOP = 7, 14
SAMPLES = "samples.safetensors"


def make_context(store: Store, dtype: torch.dtype) -> RunContext:
    context = small_task(
        store,
        precision="fp32",
        ranks=join(),
        max_steps=STEPS,
        batch_rows=ROWS,
        micro_batch_size=2,
        eval_frequency=6,
        checkpoint_minutes=60.0,
    )
    context.model.network.to(dtype)
    return context


class Replay:
    """Stands in for a network's forward pass: remembers each row's samples, or puts in the remembered ones."""

    def __init__(self, network: Electra, known: dict[str, Tensor] | None):
        self.forward, self.known, self.seen = network.forward, known, dict[str, Tensor]()
        network.forward = self  # type: ignore[method-assign]

    def __call__(self, rows, masked, **options):
        # by the pieces as well: rows of the dev set have the keys of rows to train on
        names = [
            f"{key}.{zlib.crc32(ids.numpy().tobytes())}" for key, ids in zip(rows.keys.tolist(), rows.ids, strict=True)
        ]
        samples = None if self.known is None else torch.stack([self.known[name] for name in names])
        output = self.forward(rows, masked, **options, samples=samples)
        self.seen.update(zip(names, output.generator.samples, strict=True))
        return output


def whole_run(store: Store, dtype: torch.dtype, target: Path, *, samples: Path | None = None) -> None:
    """All steps at once; weights and the last losses are saved. samples: replayed where the file is there."""
    context = make_context(store, dtype)
    network = context.model.network
    replay = None
    if samples is not None:
        replay = Replay(network, load_file(samples) if samples.exists() else None)
    losses = [result.evaluation.losses for result in pretrain(context, State()) if result.evaluation is not None]
    if context.ranks.is_first:
        if replay is not None and replay.known is None:
            save_file({name: one.clone() for name, one in replay.seen.items()}, samples)
        told = torch.tensor([list(one.values()) for one in losses], dtype=torch.float64)
        save_file({**network.state_dict(), "losses": told}, target)


def part_of_a_run(store: Store, folder: Path, *, until: int) -> None:
    """Go on with the run in `folder` to the step `until`, and leave a checkpoint there."""
    context = make_context(store, torch.float64)
    run = Run(folder=folder, tokenizer=store.load_tokenizer(), description={"version": "1", "objective": "electra"})
    for result in train_on_disk(run, context, restore(context, folder)):
        if result.state.step == until:
            save_state(run, context, result.state)
            break


def main(store_folder: str, folder: str) -> None:
    store, target = Store.open(Path(store_folder)), Path(folder)
    whole_run(store, torch.float64, target / "two64.safetensors")
    whole_run(store, torch.float32, target / "two32.safetensors", samples=target / SAMPLES)
    part_of_a_run(store, target / "resumed", until=SECOND_STOP)
    leave()


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(*sys.argv[1:])
