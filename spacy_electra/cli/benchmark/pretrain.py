"""`spacy electra benchmark pretrain`: steps beside Hugging Face's modules, `spacy pretrain` and the device's peak."""

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from typing import Any

import torch
import typer
from wasabi import msg

from spacy_electra.benchmark.measure import Step, Timed, describe_machine, in_turn, matrix_peak, ratio
from spacy_electra.benchmark.ours import StepOnRows, bare_step, make_learner, our_step
from spacy_electra.benchmark.reference import reference_step
from spacy_electra.benchmark.shapes import PAIRS, Pair, full_rows, packed_rows, padded_rows, short_documents
from spacy_electra.cli.device import choose_device
from spacy_electra.cli.errors import clear_errors
from spacy_electra.data.rows import Rows
from spacy_electra.model.precision import PRECISIONS, choose_precision

BATCHES = 8  # different ones, used in turn


@dataclass(frozen=True)
class Row:
    """A line of the table."""

    what: str
    ours: float
    theirs: float
    ratio: float
    low: float  # lowest and highest ratio of the rounds
    high: float
    ours_wall: float  # units per second of the clock
    theirs_wall: float
    ours_gb: float | None  # highest memory of the process (CPU) or on the device (GPU)
    theirs_gb: float | None
    unit: str


@clear_errors
def benchmark_pretrain(
    sizes: str = typer.Option("tiny,small", "--sizes", help="Frozen shapes to run, apart by commas"),
    rounds: int = typer.Option(12, "--rounds", min=2, help="Steps of each program; `small` takes half"),
    threads: int = typer.Option(1, "--threads", min=1, help="Threads of torch on a CPU"),
    words: bool = typer.Option(True, help="Also run `spacy pretrain` (CPU only)"),
    gpu_id: int = typer.Option(-1, "--gpu-id", "-g", help="Number of the GPU; -1 for the CPU"),
    json_path: Path | None = typer.Option(None, "--json", help="File for the figures"),
) -> None:
    """Time pretraining steps beside the same step written with Hugging Face's modules, in turn, batch for batch.

    Shapes, batches and precisions are equal; rates are pieces per CPU-second of the fastest step, and the ratio's
    spread is that of the rounds. The reference is Hugging Face's ElectraForMaskedLM and ElectraForPreTraining.

    \b
    Example:
      python -m spacy electra benchmark pretrain --sizes tiny --json pretrain.json
    """
    device = choose_device(gpu_id, allocator=None, memory_fraction=1.0)
    torch.set_num_threads(threads)
    names = [name for name in sizes.split(",") if name]
    if unknown := [name for name in names if name not in PAIRS]:
        raise ValueError(f"--sizes knows {', '.join(PAIRS)}, but got {unknown[0]!r}.")
    msg.info(describe_machine(device))
    rows, peaks = [], []
    for name in names:
        for row in pieces_rows(name, rounds=rounds if name == "tiny" else max(2, rounds // 2), device=device):
            rows.append(row)
            show(row)
        peaks.append(share_of_peak(name, device=device, rounds=rounds))
        msg.text(f"{peaks[-1]['what']}: {peaks[-1]['share']:.1%} of {peaks[-1]['peak_gflops']:,.0f} GFLOP/s")
    if words and device.type == "cpu":
        rows.append(words_row(rounds=rounds))
        show(rows[-1])
    if json_path is not None:
        report = {"machine": describe_machine(device), "rows": [asdict(row) for row in rows], "peaks": peaks}
        json_path.parent.mkdir(parents=True, exist_ok=True)
        json_path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf8")


def pieces_rows(name: str, *, rounds: int, device: torch.device) -> Iterator[Row]:
    """The lines of one shape against the reference and against a bare loop."""
    pair = PAIRS[name]
    fast = fast_name(device)
    vocab = pair.discriminator.vocab
    full = [full_rows(vocab, first=1000 * number).to(device) for number in range(BATCHES)]
    documents = [short_documents(vocab, first=1000 * number, count=16) for number in range(BATCHES)]
    padded = [padded_rows(one).to(device) for one in documents]
    packed = [packed_rows(one).to(device) for one in documents]

    def ours(precision: str, dropout: float = 0.0) -> StepOnRows:
        return our_step(make_learner(pair, dropout=dropout, precision=precision, device=device))

    def theirs(precision: str, dropout: float, *, compiled: bool = False) -> StepOnRows:
        step = reference_step(pair, dropout=dropout, precision=PRECISIONS[precision], device=device, compiled=compiled)
        return lambda rows: step(rows.ids, rows.is_real)

    def compare(what: str, mine: Step, other: Step) -> Row:
        return make_row(what, in_turn({"ours": mine, "theirs": other}, rounds=rounds, device=device), unit="pieces")

    yield compare(
        f"{name}: {fast}, no dropout / reference as it comes (fp32, dropout 0.1)",
        on(ours(fast), full),
        on(theirs("fp32", 0.1), full),
    )
    yield compare(f"{name}: both {fast}, no dropout", on(ours(fast), full), on(theirs(fast, 0.0), full))
    yield compare(f"{name}: both fp32, no dropout", on(ours("fp32"), full), on(theirs("fp32", 0.0), full))
    yield compare(
        f"{name}: {fast}, packed / reference as it comes, a padded document a row",
        on(ours(fast), packed),
        on(theirs("fp32", 0.1), padded),
    )
    if device.type == "cuda":
        yield compare(
            f"{name}: both {fast}, reference under torch.compile",
            on(ours(fast), full),
            on(theirs(fast, 0.0, compiled=True), full),
        )
    learner = make_learner(pair, dropout=0.0, precision=fast, device=device)
    other = make_learner(pair, dropout=0.0, precision=fast, device=device)
    yield compare(f"{name}: thinc / bare torch loop", on(our_step(learner), full), on(bare_step(other), full))


def fast_name(device: torch.device) -> str:
    """Name of the precision that training chooses by itself."""
    dtype = choose_precision("auto", device).training
    return next(name for name, known in PRECISIONS.items() if known == dtype)


def on(step: StepOnRows, batches: list[Rows]) -> Step:
    """A program that takes the batches in turn and says how many real pieces each had."""
    sizes = [float(rows.is_real.sum()) for rows in batches]
    turn = count()

    def run() -> float:
        number = next(turn) % len(batches)
        step(batches[number])
        return sizes[number]

    return run


def make_row(what: str, timed: dict[str, Timed], *, unit: str) -> Row:
    ours, theirs = timed["ours"], timed["theirs"]
    between = ratio(ours, theirs)
    return Row(
        what=what,
        ours=ours.best,
        theirs=theirs.best,
        ratio=between.best,
        low=between.low,
        high=between.high,
        ours_wall=ours.wall_rate,
        theirs_wall=theirs.wall_rate,
        ours_gb=ours.memory,
        theirs_gb=theirs.memory,
        unit=f"{unit} per CPU-second",
    )


def share_of_peak(name: str, *, device: torch.device, rounds: int) -> dict[str, Any]:
    """How much of what the device reaches in one large matrix product the products of a training step reach."""
    pair: Pair = PAIRS[name]
    fast = fast_name(device)
    batches = [full_rows(pair.discriminator.vocab, first=1000 * number).to(device) for number in range(BATCHES)]
    step = on(our_step(make_learner(pair, dropout=0.0, precision=fast, device=device)), batches)
    peaks: list[float] = []

    def multiply() -> float:
        peaks.append(matrix_peak(PRECISIONS[fast], device))
        return 1.0

    programs: dict[str, Callable[[], float]] = {"ours": step, "peak": multiply}
    timed = in_turn(programs, rounds=max(3, rounds // 3), device=device)
    peak = max(peaks)
    return {
        "what": f"{name}: matrix products of a step, {fast}",
        "share": timed["ours"].best * pair.train_flops / peak,
        "peak_gflops": peak / 1e9,
        "train_mflops_per_piece": pair.train_flops / 1e6,
    }


def words_row(*, rounds: int) -> Row:
    """The line in words against `spacy pretrain`."""
    from spacy_electra.cli.benchmark.words import our_words, read_text, spacy_words  # loads spaCy's training code

    text = read_text()
    device = torch.device("cpu")
    programs = {"ours": our_words(text, precision="auto"), "theirs": spacy_words(text)}
    return make_row(
        "tiny: words of raw text / `spacy pretrain`", in_turn(programs, rounds=rounds, device=device), unit="words"
    )


def show(row: Row) -> None:
    """One line of the table, as soon as it is known."""
    memory = "" if row.ours_gb is None or row.theirs_gb is None else f", {row.ours_gb:.2f} / {row.theirs_gb:.2f} GB"
    print(  # wasabi would break the line
        f"{row.ratio:6.2f} x ({row.low:.2f} to {row.high:.2f})  {row.ours:9,.0f} / {row.theirs:7,.0f} {row.unit}"
        f", wall {row.ours_wall:,.0f} / {row.theirs_wall:,.0f}{memory}  {row.what}"
    )
