"""What only a graphics card can show, in three commands of minutes each. Needs torch, thinc, transformers and typer.

small   peaks of the card; ELECTRA-small on 128 rows of 128 pieces beside Hugging Face's modules, plain and compiled
base    ELECTRA-base on rows of 128 and of 512 pieces beside Hugging Face's modules, plain and compiled
train   ELECTRA-small from a store for some minutes, stopped half way and resumed, with scores on the dev set

Example: python benchmarks/gpu.py small --json small.json
         python benchmarks/gpu.py train corpus/pretrain training/gpu --minutes 6
"""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import typer
from confection import Config

from spacy_electra.benchmark.measure import Timed, describe_machine, in_turn, matrix_peak
from spacy_electra.benchmark.ours import compiled_step, make_learner, our_step
from spacy_electra.benchmark.reference import ReferenceStep
from spacy_electra.benchmark.shapes import CARD_PAIRS, PAIRS, Pair, full_rows
from spacy_electra.benchmark.together import Make, time_made
from spacy_electra.data.packing import Packing, split_documents
from spacy_electra.data.rows import Rows
from spacy_electra.data.store import Store
from spacy_electra.model.build import build_electra, shim_of
from spacy_electra.model.optimizer import adamw_v1
from spacy_electra.model.precision import PRECISIONS, choose_precision
from spacy_electra.training.compiling import compile_training, is_wanted
from spacy_electra.training.loop import Facts, Task
from spacy_electra.training.run import Run, held, restore, save_state, train_on_disk
from spacy_electra.training.schedule import Budget
from spacy_electra.training.schema import Training
from spacy_electra.training.state import State

CONFIG = Path(__file__).parents[1] / "configs" / "pretrain-small.cfg"
COPIED = 1 << 28  # numbers whose copy shows how fast memory is
ROWS = {"small": 128, "base": 128, "base 512": 32}
BATCHES = 4
app = typer.Typer(add_completion=False, rich_markup_mode=None)

Step = Callable[[Rows], None]


@app.command()
def small(
    device: str = typer.Option("cuda:0", help="torch's name of the device"),
    rounds: int = typer.Option(20, min=2, help="Steps of each program"),
    rows: int = typer.Option(ROWS["small"], min=1, help="Rows of a step"),
    compiled: bool = typer.Option(True, help="Also both under torch.compile"),
    shape: str = typer.Option("small", help="Frozen shape; tiny for a quick look"),
    json_path: Path | None = typer.Option(None, "--json", help="File for the figures"),
) -> None:
    """Peaks, and ELECTRA-small."""
    place = torch.device(device)
    facts = {"machine": describe_machine(place), "peaks": peaks(place)}
    pair = PAIRS[shape]
    facts["rows"] = [compare(shape, pair, place, rows=rows, rounds=rounds, compiled=compiled, peak=facts["peaks"])]
    tell(facts, json_path)


@app.command()
def base(
    device: str = typer.Option("cuda:0", help="torch's name of the device"),
    rounds: int = typer.Option(10, min=2, help="Steps of each program"),
    json_path: Path | None = typer.Option(None, "--json", help="File for the figures"),
) -> None:
    """ELECTRA-base, on short rows and on long ones."""
    place = torch.device(device)
    facts: dict[str, Any] = {"machine": describe_machine(place), "peaks": peaks(place), "rows": []}
    for name in ("base", "base 512"):
        options = {"rows": ROWS[name], "rounds": rounds, "compiled": True, "peak": facts["peaks"]}
        facts["rows"].append(compare(name, CARD_PAIRS[name], place, **options))
        keep(facts, json_path)
    tell(facts, json_path)


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
    place = torch.device(device)
    facts: dict[str, Any] = {"machine": describe_machine(place), "halves": []}
    for share in (0.5, 1.0):
        task = make_task(config, Store.open(store), minutes=minutes, device=place)
        description = {"version": "benchmark", "objective": "electra"}
        run = Run(folder=output, tokenizer=Store.open(store).load_tokenizer(), description=description)
        with held(output):
            facts["halves"].append(pretrain_until(share, run, task, restore(task, output)))
        keep(facts, json_path)
    tell(facts, json_path)


def peaks(device: torch.device) -> dict[str, float]:
    """What the device reaches: floating-point operations of a large product, bytes of a large copy, each a second."""
    dtype = choose_precision("auto", device).training
    count = COPIED if device.type == "cuda" else COPIED // 64
    source, target = torch.ones(count, device=device), torch.empty(count, device=device)

    def copy() -> float:
        target.copy_(source)
        return 2.0 * 4 * count

    copied = in_turn({"copy": copy}, rounds=5, device=device)["copy"].best
    return {"tflops": matrix_peak(dtype, device) / 1e12, "terabytes": copied / 1e12}


def compare(
    name: str, pair: Pair, device: torch.device, *, rows: int, rounds: int, compiled: bool, peak: dict[str, float]
) -> dict[str, Any]:
    """Pieces a second of ours and of the reference, batch for batch, and what share of the peak that is.

    None for a program that does not fit into memory, or that could not be compiled and would be another's double.
    """
    dtype = choose_precision("auto", device).training
    window, vocab = pair.discriminator.positions, pair.discriminator.vocab
    batches = [full_rows(vocab, first=1000 * n, count=rows, window=window).to(device) for n in range(BATCHES)]
    precision = next(name for name, known in PRECISIONS.items() if known == dtype)
    not_compiled: set[str] = set()
    programs = make_programs(pair, device, precision=precision, not_compiled=not_compiled)
    makes: dict[str, Make] = {
        name: lambda make=make: over(batches, make()) for name, make in programs.items() if compiled or "," not in name
    }
    answer: dict[str, Any] = {"what": f"{name}, {rows} rows of {window}, {precision}"}
    timed = time_made(makes, rounds=rounds, device=device)
    for program, result in timed.items():
        is_told = result is not None and program not in not_compiled
        answer[program] = figures(result, pair, peak, first=timed["ours"] or result) if is_told else None
    return answer


def make_programs(
    pair: Pair, device: torch.device, *, precision: str, not_compiled: set[str]
) -> dict[str, Callable[[], Step]]:
    """What builds each program. not_compiled: gets the names of ours that could not be compiled."""
    options = {"dropout": 0.0, "precision": precision, "device": device}
    compiled = "ours, compiled"
    return {
        "ours": lambda: our_step(make_learner(pair, **options)),
        compiled: lambda: compiled_step(make_learner(pair, **options), on_plain=lambda: not_compiled.add(compiled)),
        "reference": lambda: ReferenceStep(pair, **options),
        "reference, compiled": lambda: ReferenceStep(pair, **options, compiled=True),
    }


def figures(timed: Timed, pair: Pair, peak: dict[str, float], *, first: Timed) -> dict[str, float | None]:
    """One program's row of the table."""
    return {
        "pieces_a_second": round(timed.best),
        "share_of_peak": round(timed.best * pair.train_flops / (peak["tflops"] * 1e12), 4),
        "ours_to_this": round(first.best / timed.best, 3),
        "gigabytes": timed.memory,
    }


def over(batches: list[Rows], step: Step) -> Callable[[], float]:
    """A program that takes the batches in turn."""
    turns: Iterator[Rows] = iter(batches * 10_000)

    def run() -> float:
        rows = next(turns)
        step(rows)
        return float(rows.ids.numel())

    return run


def make_task(config: Path, store: Store, *, minutes: float, device: torch.device) -> Task:
    """The run that a pretraining config describes, over a store's documents; compiled where the config asks for it."""
    sections = Config().from_disk(
        config, overrides={"paths.tokenizer": str(store.directory / "tokenizer"), "training.max_minutes": minutes}
    )
    given = {name: value for name, value in sections["model"].items() if not name.startswith("@")}
    optimizer = adamw_v1(**{k: v for k, v in sections["training"]["optimizer"].items() if not k.startswith("@")})
    settings = Training(**{**sections["training"], "max_steps": 0, "optimizer": optimizer, "logger": None})
    model = build_electra(**given)
    shim_of(model).to_device({"cuda": "gpu"}.get(device.type, device.type), device.index or 0)
    if is_wanted(sections["system"]["compile"], device):
        compile_training(shim_of(model))
    documents, window = split_documents(store, seed=0), model.attrs["window"]
    return Task(
        model=model,
        optimizer=optimizer,
        train=Packing(store, documents.train, window=window, seed=0),
        dev=Packing(store, documents.dev, window=window, seed=0),
        special=store.manifest.special,
        budget=Budget(seconds=minutes * 60),
        settings=settings,
        device=device,
    )


def pretrain_until(share: float, run: Run, task: Task, state: State) -> dict[str, Any]:
    """Train until this share of the budget is spent, leave a checkpoint, and say how it went."""
    begun, rows = time.monotonic(), state.row
    last: Facts | None = None
    evaluated = None
    for facts in train_on_disk(run, task, state):
        last, evaluated = facts, facts.evaluation or evaluated
        if facts.progress >= share:
            break
    assert last is not None
    save_state(run, task, last.state)
    pieces = (last.state.row - rows) * task.train.window
    return {
        "from_step": state.step,
        "to_step": last.state.step,
        "slots_a_second": round(pieces / (time.monotonic() - begun)),
        "is_compiled": shim_of(task.model).training_forward is not None,
        "rows_at_once": task.portion.rows,
        "scores": evaluated.scores if evaluated is not None else None,
    }


def tell(facts: dict[str, Any], path: Path | None) -> None:
    print(json.dumps(facts, indent=2))
    keep(facts, path)


def keep(facts: dict[str, Any], path: Path | None) -> None:
    """Write what is known so far, so that a limit of time takes nothing that was found."""
    if path is not None:
        path.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf8")


if __name__ == "__main__":
    app()
