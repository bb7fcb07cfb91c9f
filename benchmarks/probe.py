"""What a discriminator is worth, in a few minutes: fine-tune it with linear heads on little data and score it.

Takes ELECTRA directories (or `random:KIND`) and a data folder, prints a row of scores for each. `README.md` has an
example.

Legend: B texts, T pieces a text, D width, M labelled spans, H heads.
"""

import argparse
import copy
import json
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast, get_args

import numpy as np
import torch
from probe_data import Batch, Example, Head, Task, bucket, collate, encode, read_sentiment, read_syntax
from torch import Tensor, nn
from torch.nn import functional as F

from spacy_electra.data.tokenizer.wordpiece import WordPiece
from spacy_electra.model.init.pretrained import load_encoder
from spacy_electra.model.init.schemes import Initialization, WithoutCorpus, initialize
from spacy_electra.model.network.attention import within_lengths
from spacy_electra.model.network.encoder import Encoder

RANDOM = "random:"
KINDS = get_args(WithoutCorpus)
TASKS = ("syntax", "sentiment")
WARM_UP = 0.1  # of all steps
CLIP = 1.0
L2 = 0.01
SENTIMENT_EPOCHS = 4  # at most; a text shows one label where a sentence shows three a word, and is learned by heart
SENTIMENT_RATE = 0.5  # of --learn-rate
SCORED_AT_ONCE = 32
SECONDS = "CPU seconds"


@dataclass(frozen=True)
class Schedule:
    """How long and how fast to learn."""

    epochs: int
    learn_rate: float  # the highest


class Probe(nn.Module):
    """An encoder and a linear layer a head over the mean of each span's pieces."""

    def __init__(self, encoder: Encoder, heads: tuple[Head, ...]):
        super().__init__()
        self.encoder = encoder
        self.heads = nn.ModuleList(nn.Linear(encoder.shape.width, len(head.labels)) for head in heads)

    def forward(self, batch: Batch) -> list[Tensor]:
        """Scores (M, labels) of each head."""
        x = self.encoder(batch.ids, mask=within_lengths(batch.lengths, batch.ids.shape[1])).flatten(0, 1)
        total = x.new_zeros(len(batch.counts), x.shape[1]).index_add(0, batch.owners, x[batch.pieces])
        mean = total / batch.counts[:, None]
        return [head(mean) for head in self.heads]


def probe(encoder: Encoder, tokenizer: WordPiece, task: Task, *, schedule: Schedule, seed: int) -> dict[str, float]:
    """Scores in percent by the heads' names; `encoder` stays as it is.

    Raises ValueError where the texts have no pieces or the learn rate makes the loss infinite.
    """
    torch.manual_seed(seed)
    model = Probe(copy.deepcopy(encoder), task.heads)
    window, pad = encoder.shape.positions, tokenizer.special.pad
    train = encode(task.train, task.heads, tokenizer, window=window)
    held_out = encode(task.held_out, task.heads, tokenizer, window=window)
    if not train or not held_out:
        raise ValueError("the tokenizer finds no pieces in the texts: it does not belong to their language.")
    learn(model, train, batch_size=task.batch_size, schedule=schedule, seed=seed, pad=pad)
    guesses, answers = guess(model, held_out, pad=pad)
    return {head.name: score(head, g, a) for head, g, a in zip(task.heads, guesses, answers, strict=True)}


def learn(model: Probe, examples: list[Example], *, batch_size: int, schedule: Schedule, seed: int, pad: int) -> None:
    """Fine-tune all weights, in place: AdamW, the rate up for `WARM_UP` of the steps and down to 0."""
    random = np.random.default_rng(seed)
    steps = math.ceil(len(examples) / batch_size) * schedule.epochs
    optimizer = torch.optim.AdamW(model.parameters(), lr=schedule.learn_rate, weight_decay=L2, fused=True)
    rate = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: slant(step, steps))
    model.train()
    for _ in range(schedule.epochs):
        for some in bucket(examples, size=batch_size, random=random):
            batch = collate(some, pad=pad)
            loss = sum_losses(model(batch), batch.answers)
            optimizer.zero_grad()
            loss.backward()
            if not nn.utils.clip_grad_norm_(model.parameters(), CLIP).isfinite():
                raise ValueError(f"training diverged (loss {float(loss)}): take a smaller --learn-rate.")
            optimizer.step()
            rate.step()


def slant(step: int, steps: int) -> float:
    """Share of the highest rate at `step`: a linear rise, times a linear fall to 0 after the last step."""
    return min(1.0, (step + 1) / max(1.0, WARM_UP * steps)) * (steps - step) / steps


def sum_losses(scores: list[Tensor], answers: Tensor) -> Tensor:
    """Mean cross-entropy of each head, added up."""
    losses = [F.cross_entropy(z, y) for z, y in zip(scores, answers, strict=True)]
    return torch.stack(losses).sum()


@torch.no_grad()
def guess(model: Probe, examples: list[Example], *, pad: int) -> tuple[Tensor, Tensor]:
    """Guesses and answers, (H, M) each."""
    model.eval()
    batches = [collate(examples[i : i + SCORED_AT_ONCE], pad=pad) for i in range(0, len(examples), SCORED_AT_ONCE)]
    guesses = [torch.stack([z.argmax(-1) for z in model(batch)]) for batch in batches]
    return torch.cat(guesses, dim=1), torch.cat([batch.answers for batch in batches], dim=1)


def score(head: Head, guesses: Tensor, answers: Tensor) -> float:
    """Percent right of (M,) guesses, or F1 over the spans that are not `head.outside`."""
    right = guesses == answers
    if head.outside is None:
        return 100.0 * float(right.double().mean())
    outside = head.labels.get(head.outside, -1)
    found, wanted = guesses != outside, answers != outside
    return 200.0 * int((right & wanted).sum()) / max(1, int(found.sum() + wanted.sum()))


def load(name: str, *, like: str | None, seed: int) -> tuple[Encoder, WordPiece]:
    """An encoder with its tokenizer; `random:KIND` has fresh weights in the shape of `like`.

    Raises FileNotFoundError for a directory that is not there, ValueError for one that is no ELECTRA, for an unknown
    kind and where `like` is missing.
    """
    if not name.startswith(RANDOM):
        return load_encoder(name)
    kind = name.removeprefix(RANDOM)
    if kind not in KINDS:
        raise ValueError(f"{name!r} names no initialization: expected {', '.join(RANDOM + one for one in KINDS)}.")
    if like is None:
        raise ValueError(f"{name} needs a shape and a tokenizer: add --like DIR, an ELECTRA directory.")
    encoder, tokenizer = load_encoder(like)
    initialize(encoder, kind=cast(Initialization, kind), seed=seed)
    return encoder, tokenizer


def read_tasks(options: argparse.Namespace) -> list[tuple[Task, Schedule]]:
    """The tasks asked for, with their schedules."""
    names = options.tasks.split(",")
    if unknown := [name for name in names if name not in TASKS]:
        raise ValueError(f"--tasks: there is no task {unknown[0]!r}, expected {','.join(TASKS)} or one of them.")
    tasks = []
    if "syntax" in names:
        task = read_syntax(options.data, sentences=options.sentences)
        tasks.append((task, Schedule(options.epochs, options.learn_rate)))
    if "sentiment" in names:
        shorter = Schedule(min(options.epochs, SENTIMENT_EPOCHS), options.learn_rate * SENTIMENT_RATE)
        tasks.append((read_sentiment(options.data), shorter))
    return tasks


def run(options: argparse.Namespace) -> None:
    """Probe every model, print the table and write the JSON file."""
    if options.json is not None and not options.json.parent.is_dir():
        raise FileNotFoundError(f"--json: there is no folder {options.json.parent} to write {options.json.name} into.")
    torch.set_num_threads(options.threads)
    torch.set_flush_denormal(True)  # the smallest Adam moments would slow the CPU down
    tasks = read_tasks(options)
    models = {name: load(name, like=options.like, seed=options.seed) for name in options.models}
    columns = [*(head.name for task, _ in tasks for head in task.heads), SECONDS]
    width = max(len("model"), *map(len, models))
    print("model".ljust(width), *(f"{column:>11}" for column in columns), flush=True)
    rows: dict[str, dict[str, float]] = {}
    for name, (encoder, tokenizer) in models.items():
        start = time.process_time()
        row = rows.setdefault(name, {})
        for task, schedule in tasks:
            row |= probe(encoder, tokenizer, task, schedule=schedule, seed=options.seed)
        row[SECONDS] = time.process_time() - start
        print(name.ljust(width), *(f"{row[column]:11.2f}" for column in columns), flush=True)
    if options.json is not None:
        found = {"options": vars(options), "scores": rows}
        options.json.write_text(json.dumps(found, indent=2, default=str) + "\n", encoding="utf8")


def _whole(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"expected a whole number from 1, but got {text!r}")
    return int(text)


def _rate(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0.0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number above 0, but got {text!r}")
    return value


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options of a command line; a malformed one ends the program with a message."""
    parser = argparse.ArgumentParser(description="Fine-tune ELECTRA encoders on little data and score them.")
    add = parser.add_argument
    kinds = ", ".join(RANDOM + kind for kind in KINDS)
    add("models", nargs="+", metavar="MODEL", help=f"ELECTRA directory, or {kinds}")
    add("--data", type=Path, required=True, help="folder with ewt/ and textcat/sst2/")
    add("--like", metavar="DIR", help=f"ELECTRA directory whose shape and tokenizer {RANDOM}KIND takes")
    add("--tasks", default=",".join(TASKS), help="which to run (default: %(default)s)")
    add("--sentences", type=_whole, default=2000, help="to learn syntax from (default: %(default)s)")
    add("--epochs", type=_whole, default=10, help=f"sentiment takes {SENTIMENT_EPOCHS} at most (default: %(default)s)")
    add("--learn-rate", type=_rate, default=2e-3, help="the highest; sentiment takes half (default: %(default)s)")
    add("--seed", type=int, default=0, help="of heads, batches and random weights (default: %(default)s)")
    add("--threads", type=_whole, default=1, help="of torch (default: %(default)s)")
    add("--json", type=Path, metavar="FILE", help="write settings and scores there, too")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; 1 and one message where the input is at fault."""
    try:
        run(parse(arguments))
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
