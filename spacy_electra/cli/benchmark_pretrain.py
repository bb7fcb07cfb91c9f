"""`spacy electra benchmark pretrain`: compare with Hugging Face's modules, `spacy pretrain` and the device's peak."""

import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import typer
from wasabi import msg

from spacy_electra.benchmark.apart import Build, in_turn_apart
from spacy_electra.benchmark.measure import SECONDS, Timed, describe_machine, ratio
from spacy_electra.benchmark.pretrain_programs import Case, Kind, bare, ours, product, theirs
from spacy_electra.benchmark.report import open_report, versions
from spacy_electra.benchmark.shapes import PAIRS, Pair
from spacy_electra.cli.device import choose_device
from spacy_electra.cli.errors import clear_errors
from spacy_electra.model.inference.backend import choose_backend
from spacy_electra.model.precision import NAMES
from spacy_electra.training.compiling import is_wanted


@dataclass(frozen=True)
class Row:
    """A row of the table: the rates of two programs, and their ratio."""

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
    ours_ran: dict[str, str]  # precision and the like
    theirs_ran: dict[str, str]


@clear_errors
def benchmark_pretrain(
    sizes: str = typer.Option("tiny,small", "--sizes", help="Benchmark shapes to run, comma-separated"),
    rounds: int = typer.Option(12, "--rounds", min=2, help="Steps of each program; `small` runs half as many"),
    threads: int = typer.Option(1, "--threads", min=1, help="Number of torch threads on a CPU"),
    words: bool = typer.Option(True, help="Also run `spacy pretrain` (CPU only)"),
    gpu_id: int = typer.Option(-1, "--gpu-id", "-g", help="Number of the GPU; -1 for the CPU"),
    json_path: Path | None = typer.Option(None, "--json", help="File for the figures"),
) -> None:
    """Compare the speed of pretraining steps with the same steps in Hugging Face's modules.

    The reference is Hugging Face's ElectraForMaskedLM and ElectraForPreTraining, with equal shapes, batches and
    precisions. Rates are pieces per CPU-second of the fastest step; on a GPU, per second of the fastest few steps. The
    spread of the ratio is that of the rounds.

    \b
    Example:
      python -m spacy electra benchmark pretrain --sizes tiny --json pretrain.json
    """
    device = choose_device(gpu_id, memory_fraction=1.0)
    check_device(device)
    torch.set_num_threads(threads)
    names = [name for name in sizes.split(",") if name]
    if unknown := [name for name in names if name not in PAIRS]:
        raise ValueError(f"--sizes knows {', '.join(PAIRS)}, but got {unknown[0]!r}.")
    facts = {
        "machine": describe_machine(device),
        "versions": versions("torch", "transformers", "spacy"),
        "rows": [],
        "peaks": [],
    }
    report = open_report(json_path, facts)
    msg.info(describe_machine(device))
    for name in names:
        turns = rounds if name == "tiny" else max(2, rounds // 2)
        for row in pieces_rows(name, rounds=turns, threads=threads, device=device):
            report.add("rows", asdict(row))
            show_row(row)
        peak = share_of_peak(name, device=device, rounds=rounds, threads=threads)
        report.add("peaks", peak)
        msg.text(f"{peak['what']}: {peak['share']:.1%} of {peak['peak_gflops']:,.0f} GFLOP/s")
    if words and device.type == "cpu":
        row = words_row(rounds=rounds, threads=threads)
        report.add("rows", asdict(row))
        show_row(row)


def check_device(device: torch.device) -> None:
    """Raise ValueError for a device whose steps cannot be timed."""
    if device.type not in SECONDS:
        raise ValueError(
            f"benchmarks run on the CPU or on NVIDIA cards, but --gpu-id chose torch's device {device.type!r}, "
            f"whose time and memory nothing here measures: leave the option out."
        )


def unit_of(things: str, device: torch.device) -> str:
    """The unit of rates on a device."""
    return f"{things} per {SECONDS[device.type]}"


def pieces_rows(name: str, *, rounds: int, threads: int, device: torch.device) -> Iterator[Row]:
    """Measure the table rows of one shape, against the reference and against a bare torch loop."""
    fast = fast_name(device)

    def case(precision: str, dropout: float = 0.0, rows: Kind = "full") -> Case:
        return Case(shape=name, precision=precision, dropout=dropout, rows=rows, device=str(device))

    def compare(what: str, mine: Build, other: Build) -> Row:
        timed = in_turn_apart({"ours": mine, "theirs": other}, rounds=rounds, device=device, threads=threads)
        return make_row(f"{name}: {what}", timed, unit=unit_of("pieces", device))

    yield compare(
        f"{fast}, no dropout / reference as it comes (fp32, dropout 0.1)",
        partial(ours, case(fast)),
        partial(theirs, case("fp32", 0.1)),
    )
    yield compare(f"both {fast}, no dropout", partial(ours, case(fast)), partial(theirs, case(fast)))
    yield compare("both fp32, no dropout", partial(ours, case("fp32")), partial(theirs, case("fp32")))
    if device.type == "cpu":  # the reference with a setting that nobody has without knowing of it
        for precision in dict.fromkeys((fast, "fp32")):
            kept = partial(theirs, case(precision), keeps_memory=True)
            what = f"both {precision}, no dropout, both keep freed memory"
            yield compare(what, partial(ours, case(precision)), kept)
    yield compare(
        f"{fast}, packed / reference as it comes, a padded document a row",
        partial(ours, case(fast, rows="packed")),
        partial(theirs, case("fp32", 0.1, rows="padded")),
    )
    if device.type == "cuda":
        compiled = partial(theirs, case(fast), compiled=True)
        yield compare(f"both {fast}, reference under torch.compile", partial(ours, case(fast)), compiled)
    if is_wanted("auto", device):  # as `pretrain` runs
        mine = partial(ours, case(fast), compiled=True)
        yield compare(
            f"{fast}, compiled / reference as it comes (fp32, dropout 0.1)", mine, partial(theirs, case("fp32", 0.1))
        )
        yield compare(f"both {fast}, both compiled", mine, partial(theirs, case(fast), compiled=True))
    yield compare("thinc / bare torch loop", partial(ours, case(fast)), partial(bare, case(fast)))


def fast_name(device: torch.device) -> str:
    """Name of the precision that "auto" trains in on a device."""
    return NAMES[choose_backend("auto", device).training]


def make_row(what: str, timed: dict[str, Timed], *, unit: str) -> Row:
    """Make a table row from the samples of the programs "ours" and "theirs"."""
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
        unit=unit,
        ours_ran=ours.facts,
        theirs_ran=theirs.facts,
    )


def share_of_peak(name: str, *, device: torch.device, rounds: int, threads: int) -> dict[str, Any]:
    """Measure the matrix products of a training step as a share of the device's rate in one large matrix product."""
    pair: Pair = PAIRS[name]
    fast = fast_name(device)
    case = Case(shape=name, precision=fast, device=str(device))
    programs: dict[str, Build] = {"ours": partial(ours, case), "product": partial(product, case)}
    timed = in_turn_apart(programs, rounds=max(3, rounds), device=device, threads=threads)
    peak = timed["product"].best
    return {
        "what": f"{name}: matrix products of a step, {fast}",
        "share": timed["ours"].best * pair.train_flops / peak,
        "peak_gflops": peak / 1e9,
        "train_mflops_per_piece": pair.train_flops / 1e6,
    }


def words_row(*, rounds: int, threads: int) -> Row:
    """Measure the table row that compares with `spacy pretrain`, in words."""
    from spacy_electra.benchmark.words import (  # spaCy's training
        our_words,
        read_benchmark_text,
        spacy_words,
        write_store,
    )

    text = read_benchmark_text()
    with tempfile.TemporaryDirectory() as folder:
        write_store(text, Path(folder))
        programs: dict[str, Build] = {
            "ours": partial(our_words, Path(folder), text.words, precision="auto"),
            "theirs": partial(spacy_words, text),
        }
        timed = in_turn_apart(programs, rounds=rounds, device=torch.device("cpu"), threads=threads)
    return make_row("tiny: words of raw text / `spacy pretrain`", timed, unit=unit_of("words", torch.device("cpu")))


def show_row(row: Row) -> None:
    """Print one row of the table."""
    memory = "" if row.ours_gb is None or row.theirs_gb is None else f", {row.ours_gb:.2f} / {row.theirs_gb:.2f} GB"
    print(  # wasabi would break the line
        f"{row.ratio:6.2f} x ({row.low:.2f} to {row.high:.2f})  {row.ours:9,.0f} / {row.theirs:7,.0f} {row.unit}"
        f", wall {row.ours_wall:,.0f} / {row.theirs_wall:,.0f}{memory}  {row.what}"
    )
