"""How fast rows come from a large store, and how much memory that takes: one epoch, then steps of a tiny model.

The store is made of random pieces, which no reader or packing can tell from text. Memory is what the system says this
process holds (resident), the pages of mapped files apart; the system's own cache of the files is not counted.
Example: python benchmarks/loader.py /tmp/large-store --gigabytes 2 --json loader.json
"""

import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import torch
import typer
from tqdm import tqdm

from spacy_electra.benchmark.ours import make_train_context, our_step
from spacy_electra.benchmark.shapes import PAIRS, SPECIAL
from spacy_electra.data.atomic import remove_files
from spacy_electra.data.batches.packing import Packing, split_documents
from spacy_electra.data.store.manifest import (
    BUILDING_ONLY,
    DIGEST,
    MANIFEST,
    Manifest,
    Shard,
    ShardWriter,
    TextFingerprint,
    join_starts,
)
from spacy_electra.data.store.reader import Store

MEAN_LENGTH = 400  # pieces of a document
DOCUMENTS_AT_ONCE = 2_000
SHARD_PIECES = 1 << 26
MEBIBYTE = 1 << 20
WINDOW, BATCH_ROWS = 128, 8


def main(
    folder: Path = typer.Argument(..., help="Where the store is, or is made"),
    gigabytes: float = typer.Option(2.0, help="Size of the store that is made; two bytes a piece"),
    steps: int = typer.Option(200, help="Steps of training after the epoch"),
    looks: int = typer.Option(10, help="How often memory is looked at, in the epoch and in the steps"),
    output: Path | None = typer.Option(None, "--json", help="File for the figures"),
) -> None:
    """Measure the loader."""
    torch.set_num_threads(1)
    if not (folder / MANIFEST).exists():
        make_store(folder, pieces=int(gigabytes * 1e9 / 2))
    store = Store.open(folder)
    begun = time.perf_counter()
    packing = Packing(store, split_documents(store, seed=0).train, window=WINDOW, seed=0)
    facts: dict[str, object] = {
        "pieces": store.pieces,
        "rows": packing.rows,
        "seconds_to_open": round(time.perf_counter() - begun, 1),
        "mebibytes_opened": memory(),
    }
    begun, used, found = time.perf_counter(), time.process_time(), []
    for first in tqdm(range(0, packing.rows, BATCH_ROWS), "rows", disable=None):
        packing.batch(first, BATCH_ROWS)
        if first // BATCH_ROWS % max(1, packing.rows // BATCH_ROWS // looks) == 0:
            found.append(memory())
    facts["pieces_a_second"] = round(packing.epoch_pieces / (time.perf_counter() - begun))
    facts["pieces_a_cpu_second"] = round(packing.epoch_pieces / (time.process_time() - used))
    facts["mebibytes_in_the_epoch"] = found
    facts["mebibytes_in_the_steps"] = train(packing, steps, looks)
    print(json.dumps(facts, indent=2))
    if output is not None:
        output.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf8")


def memory() -> dict[str, int]:
    """Resident mebibytes, of which those of mapped files."""
    found = psutil.Process().memory_full_info() if psutil.LINUX else psutil.Process().memory_info()
    return {"resident": found.rss // MEBIBYTE, "of_files": getattr(found, "shared", 0) // MEBIBYTE}


def train(packing: Packing, steps: int, looks: int) -> list[dict[str, int]]:
    """Memory during steps of a tiny model."""
    context = make_train_context(
        PAIRS["tiny"], dropout=0.0, precision="auto", device=torch.device("cpu"), special=SPECIAL
    )
    step, found = our_step(context), []
    for number in range(steps):
        step(packing.batch(number * BATCH_ROWS, BATCH_ROWS))
        if number % max(1, steps // looks) == 0:
            found.append(memory())
    return found


def make_store(folder: Path, *, pieces: int) -> None:
    """Documents of random pieces of the tiny shape's vocabulary."""
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = PAIRS["tiny"].discriminator.vocab
    draw, text, done = np.random.default_rng(0), TextFingerprint(), 0
    shards: list[Shard] = []
    with tqdm(total=pieces, desc="make", unit=" pieces", disable=None) as bar:
        while done < pieces:
            with ShardWriter(folder, number=len(shards), dtype="<u2", first_piece=done, unk=SPECIAL.unk) as writer:
                while writer.pieces < min(SHARD_PIECES, pieces - done):
                    for length in (1 + draw.exponential(MEAN_LENGTH, DOCUMENTS_AT_ONCE)).astype(int).tolist():
                        digest = draw.bytes(DIGEST)
                        text.add(digest)
                        writer.add(digest, draw.integers(len(SPECIAL.all), vocabulary, length))
                shards.append(writer.close(text=text.value))
            bar.update(shards[-1].pieces)
            done += shards[-1].pieces
    manifest = Manifest("<u2", vocabulary, SPECIAL, "random pieces", SHARD_PIECES, tuple(shards))
    manifest = replace(manifest, starts_sha256=join_starts(folder, manifest))
    manifest.write(folder / MANIFEST)
    remove_files(folder, BUILDING_ONLY)


if __name__ == "__main__":
    typer.run(main)
