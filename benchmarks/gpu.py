"""What only a graphics card can show, in three commands of minutes each. Needs torch, thinc, transformers and typer.

small   peaks of the card; ELECTRA-small on 128 rows of 128 pieces beside Hugging Face's modules, plain and compiled
base    ELECTRA-base on rows of 128 and of 512 pieces beside Hugging Face's modules, plain and compiled
train   ELECTRA-small from a store for some minutes, stopped half way and resumed, with scores on the dev set

Example: python benchmarks/gpu.py small --json small.json
         python benchmarks/gpu.py train corpus/pretrain training/gpu --minutes 6
"""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any

import torch
import typer
from gpu_run import make_context, pretrain_until
from together import Make, time_made

from spacy_electra.benchmark.measure import SECONDS, Program, Timed, describe_machine, in_turn, matrix_peak
from spacy_electra.benchmark.ours import compiled_step, make_train_context, our_step
from spacy_electra.benchmark.reference import ReferenceStep
from spacy_electra.benchmark.report import Report, open_report, versions
from spacy_electra.benchmark.shapes import CARD_PAIRS, PAIRS, Pair, full_rows
from spacy_electra.data.batch import Rows
from spacy_electra.data.store.reader import Store
from spacy_electra.model.inference.backend import choose_backend
from spacy_electra.model.precision import NAMES
from spacy_electra.training.run import Run, held, restore

CONFIG = Path(__file__).parents[1] / "configs" / "pretrain-small.cfg"
COPIED = 1 << 28  # numbers whose copy shows how fast memory is
ROWS = {"small": 128, "base": 128, "base 512": 32}
BATCHES = 4
FAILED = "no, it failed"
MINUTES = 6.5  # what is begun last may be compiled for two
app = typer.Typer(add_completion=False, rich_markup_mode=None)

Step = Callable[[Rows], None]


@app.command()
def small(
    device: str = typer.Option("cuda:0", help="torch's name of the device"),
    rounds: int = typer.Option(20, min=2, help="Steps of each program"),
    rows: int = typer.Option(ROWS["small"], min=1, help="Rows of a step"),
    compiled: bool = typer.Option(True, help="Also both under torch.compile"),
    shape: str = typer.Option("small", help="Frozen shape; tiny for a quick look"),
    minutes: float = typer.Option(MINUTES, min=0.0, help="After which no other program is begun"),
    json_path: Path | None = typer.Option(None, "--json", help="File for the figures"),
) -> None:
    """Peaks, and ELECTRA-small."""
    if shape not in PAIRS:
        raise typer.BadParameter(f"--shape knows {', '.join(PAIRS)}, but got {shape!r}.")
    place, report = start(device, json_path)
    until = monotonic() + 60 * minutes
    peak = report.facts["peaks"] = peaks(place)
    options: dict[str, Any] = {"rows": rows, "rounds": rounds, "compiled": compiled, "peak": peak, "until": until}
    report.add("rows", compare(shape, PAIRS[shape], place, **options))
    print(report.text())


@app.command()
def base(
    device: str = typer.Option("cuda:0", help="torch's name of the device"),
    rounds: int = typer.Option(10, min=2, help="Steps of each program"),
    minutes: float = typer.Option(
        MINUTES, min=0.0, help="After which no other program is begun; half of it for the short rows"
    ),
    json_path: Path | None = typer.Option(None, "--json", help="File for the figures"),
) -> None:
    """ELECTRA-base, on short rows and on long ones."""
    place, report = start(device, json_path)
    begun = monotonic()
    peak = report.facts["peaks"] = peaks(place)
    for name, share in (("base", 0.5), ("base 512", 1.0)):
        until = begun + 60 * minutes * share
        options: dict[str, Any] = {"rows": ROWS[name], "rounds": rounds, "compiled": True, "peak": peak, "until": until}
        report.add("rows", compare(name, CARD_PAIRS[name], place, **options))
    print(report.text())


@app.command()
def train(
    store: Path = typer.Argument(..., help="What `tokenize` made"),
    output: Path = typer.Argument(..., help="Folder of the run"),
    minutes: float = typer.Option(6.0, min=0.01, help="Of pretraining, in two halves"),
    config: Path = typer.Option(CONFIG, help="Pretraining config, for [model] and [training]"),
    device: str = typer.Option("cuda:0", help="torch's name of the device"),
    json_path: Path | None = typer.Option(None, "--json", help="File for the figures"),
) -> None:
    """Pretrain, stop in the middle, resume."""
    place, report = start(device, json_path)
    for share in (0.5, 1.0):
        task = make_context(config, Store.open(store), minutes=minutes, device=place)
        description = {"version": "benchmark", "objective": "electra"}
        run = Run(folder=output, tokenizer=Store.open(store).load_tokenizer(), description=description)
        try:
            with held(output):
                report.add("halves", pretrain_until(share, run, task, restore(task, output)))
        except ValueError as error:
            raise typer.BadParameter(str(error)) from error
    print(report.text())


def peaks(device: torch.device) -> dict[str, float]:
    """What the device reaches: floating-point operations of a large product, bytes of a large copy, each a second."""
    dtype = choose_backend("auto", device).training
    count = COPIED if device.type == "cuda" else COPIED // 64
    source, target = torch.ones(count, device=device), torch.empty(count, device=device)

    def copy() -> float:
        target.copy_(source)
        return 2.0 * 4 * count

    copied = in_turn({"copy": copy}, rounds=5, device=device)["copy"].best
    return {"tflops": matrix_peak(dtype, device) / 1e12, "terabytes": copied / 1e12}


def compare(
    name: str,
    pair: Pair,
    device: torch.device,
    *,
    rows: int,
    rounds: int,
    compiled: bool,
    peak: dict[str, float],
    until: float,
) -> dict[str, Any]:
    """Pieces a second of ours and of the reference, batch for batch, and what share of the peak that is.

    None for a program that does not fit into memory, that could not be compiled and would be another's double, or that
    was left out because the time of `until` had come.
    """
    window, vocab = pair.discriminator.positions, pair.discriminator.vocab
    batches = [full_rows(vocab, first=1000 * n, count=rows, window=window).to(device) for n in range(BATCHES)]
    precision = NAMES[choose_backend("auto", device).training]
    makes = make_programs(pair, batches, precision=precision, device=device)
    asked = {name: make for name, make in makes.items() if compiled or "," not in name}
    found = time_made(asked, rounds=rounds, device=device, until=until)
    what = f"{name}, {rows} rows of {window}, {precision}"
    answer: dict[str, Any] = {"what": what, "took_turns": found.took_turns, "left_out": found.left_out}
    for program, timed in found.timed.items():
        if timed is None or timed.facts.get("compiled") == FAILED:
            answer[program] = None
        else:
            answer[program] = figures(timed, pair, peak, ours=found.timed["ours"])
    return answer


def make_programs(pair: Pair, batches: list[Rows], *, precision: str, device: torch.device) -> dict[str, Make]:
    """What builds each program."""
    options: dict[str, Any] = {"dropout": 0.0, "precision": precision, "device": device}

    def ours(*, compiled: bool) -> Program:
        facts = {"precision": precision, "compiled": "yes" if compiled else "no"}
        context = make_train_context(pair, **options)
        if not compiled:
            return Program(over(batches, our_step(context)), facts)
        return Program(over(batches, compiled_step(context, on_plain=lambda: facts.update(compiled=FAILED))), facts)

    def reference(*, compiled: bool) -> Program:
        step = ReferenceStep(pair, **options, compiled=compiled)
        return Program(over(batches, step), step.facts)

    return {
        "ours": partial(ours, compiled=False),
        "ours, compiled": partial(ours, compiled=True),
        "reference": partial(reference, compiled=False),
        "reference, compiled": partial(reference, compiled=True),
    }


def figures(timed: Timed, pair: Pair, peak: dict[str, float], *, ours: Timed | None) -> dict[str, Any]:
    """One program's row of the table. ours: None where that does not fit into memory, or was left out."""
    return {
        "pieces_a_second": round(timed.best),
        "share_of_peak": round(timed.best * pair.train_flops / (peak["tflops"] * 1e12), 4),
        "ours_to_this": None if ours is None else round(ours.best / timed.best, 3),
        "gigabytes": timed.memory,
        "ran": timed.facts,
    }


def over(batches: list[Rows], step: Step) -> Callable[[], float]:
    """A program that takes the batches in turn."""
    turns: Iterator[Rows] = iter(batches * 10_000)

    def run() -> float:
        rows = next(turns)
        step(rows)
        return float(rows.ids.numel())

    return run


def start(device: str, json_path: Path | None) -> tuple[torch.device, Report]:
    """The device, and the report of what it is; refuses at once what would fail later."""
    try:
        place = torch.device(device)
    except RuntimeError as error:
        raise typer.BadParameter(f"--device {device}: {str(error).splitlines()[0]}") from None
    if place.type not in SECONDS:
        raise typer.BadParameter(f"--device must be one of {', '.join(SECONDS)}, but got {device!r}.")
    if place.type == "cuda" and (place.index or 0) >= torch.cuda.device_count():
        raise typer.BadParameter(
            f"--device {device}, but torch {torch.__version__} sees {torch.cuda.device_count()} cards: "
            f"run this where there is one, or give --device cpu for a look at how it works."
        )
    facts = {"machine": describe_machine(place), "versions": versions("torch", "transformers")}
    try:
        return place, open_report(json_path, facts)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


if __name__ == "__main__":
    app()
