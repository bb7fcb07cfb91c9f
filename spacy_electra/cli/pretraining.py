"""The work of `spacy electra pretrain`: from config, store and device to a run on disk."""

import math
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from spacy.cli._util import import_code, parse_config_overrides
from wasabi import msg

import spacy_electra
from spacy_electra.cli import outputs
from spacy_electra.cli.corpora import all_ranges, mixed, mixed_counts, open_corpora, shares_in_words
from spacy_electra.cli.device import choose_rank_device, move, say_if_cupy_is_missing
from spacy_electra.cli.errors import INTERRUPTED, warn
from spacy_electra.cli.folder_kinds import RUN, check_kind
from spacy_electra.cli.interrupts import Interrupts
from spacy_electra.cli.loggers import RunLogger, silent
from spacy_electra.cli.progress import RunProgress
from spacy_electra.cli.resuming import RUN_CONFIG, check_teacher, read_stored_run, resume_config, write_run_config
from spacy_electra.cli.settings import PretrainingConfig, make, read_pretraining_config, shapes_in
from spacy_electra.cli.teaching import make_distillation
from spacy_electra.cli.unknown import check_unknown
from spacy_electra.data.batches.packing import Packing, Split, split_documents
from spacy_electra.data.store.reader import Store
from spacy_electra.data.tokenizer.wordpiece import WordPiece
from spacy_electra.model.init.biases import piece_counts, start_from_frequencies
from spacy_electra.model.init.embeddings import start_from_neighbours
from spacy_electra.model.init.pretrained import take_tables
from spacy_electra.model.network.electra import Electra
from spacy_electra.model.pretrainer import HEADS, network_of, shim_of
from spacy_electra.training.compiling import compile_training, is_wanted
from spacy_electra.training.distributed import ALONE, Ranks, join, leave
from spacy_electra.training.least_memory import check_room
from spacy_electra.training.loop import Evaluation, RunContext, settle_micro_batch
from spacy_electra.training.malloc import keep_freed_memory
from spacy_electra.training.monitor import Alarms
from spacy_electra.training.run import (
    LAST,
    Run,
    check_run_folder,
    finish,
    first_loss,
    held,
    restore,
    save_state,
    train_on_disk,
)
from spacy_electra.training.schedule import Budget
from spacy_electra.training.state import State


@dataclass(frozen=True)
class Data:
    """What a run reads."""

    tokenizer: WordPiece
    train: Store
    dev: Store | None  # None: held out of train
    corpora: dict[str, Store] = field(default_factory=dict)  # mixed into train


@dataclass(frozen=True)
class RunResult:
    """How a run on disk ended."""

    state: State
    evaluation: Evaluation | None  # the last one; None where no evaluation took place
    was_interrupted: bool


def run_pretraining(
    config: Path, *, output: Path, resume: bool, gpu_id: int, code: Path | None, arguments: list[str]
) -> int:
    """Pretrain into the folder `output`; returns the exit status, 0 or that of an interrupt.

    code: Python file to import first.
    arguments: overrides as on the command line, e.g. --training.max_steps 9.
    Raises ValueError or OSError for everything that a user can fix: config, data, device, folder.
    """
    import_code(code)
    given = settings = read_pretraining_config(config, parse_config_overrides(list(arguments)))
    system = settings.system
    device = choose_rank_device(gpu_id, memory_fraction=system.gpu_memory_fraction)
    check_run_folder(output, resume=resume)
    check_kind(output, RUN)
    outputs.check_folder(output)
    if device.type == "cpu":
        keep_freed_memory()
    data = open_data(settings)
    check_unknown(data.train, data.dev, *data.corpora.values(), most=settings.training.max_unknown)
    beginning = read_stored_run(output)
    if beginning is not None:
        settings = resume_config(
            beginning, settings, tokenizer=data.tokenizer, train=data.train, dev=data.dev, corpora=data.corpora
        )
    tables = None if beginning is None else beginning.tables
    context = make_context(settings, data, device, is_new=beginning is None, tables=tables, ranks=join())
    if beginning is not None:
        check_teacher(beginning, context)
    if is_wanted(system.compile, device):
        compile_training(shim_of(context.model))
    with held(output) if context.ranks.is_first else nullcontext():
        check_run_folder(output, resume=resume)
        if context.ranks.is_first and (read_stored_run(output) is None) != (beginning is None):
            raise ValueError(f"another process has written into {output} meanwhile: start again to go on from there.")
        state = restore(context, output)  # the ranks have met: all have looked at the folder before the first writes
        settle_micro_batch(context, state)
        if context.ranks.is_first:
            data.tokenizer.save(output / "tokenizer", model_max_length=context.train.window)
            write_run_config(output, given, context, train=data.train, dev=data.dev, corpora=data.corpora)
        run = Run(folder=output, tokenizer=data.tokenizer, description=card_rows(settings, data, context))
        was_interrupted = spend_budget(settings, context, run, state)
    leave()
    if was_interrupted and context.ranks.is_first:
        print(resume_command(output, gpu_id=gpu_id, code=code, processes=context.ranks.size))
    return INTERRUPTED if was_interrupted else 0


def spend_budget(settings: PretrainingConfig, context: RunContext, run: Run, state: State) -> bool:
    """Train until the budget is spent, and print the result; returns whether the run was interrupted."""
    output, is_first = run.folder, context.ranks.is_first
    if context.progress(state) >= 1.0:
        finish(run, context, state)
        if is_first:
            msg.good(f"The run in {output} has spent its budget already: nothing to do.")
        return False
    if is_first:
        announce(settings, context, state, output)
        if context.device.type == "cuda":
            say_if_cupy_is_missing()
    ended = run_loop(settings, context, run, state)
    if ended.was_interrupted and is_first:
        msg.warn(f"Interrupted after {ended.state.step:,} steps, which are saved. Go on with:")
    elif is_first:
        conclude(ended, output)
    return ended.was_interrupted


def open_data(settings: PretrainingConfig) -> Data:
    """Open tokenizer and stores. Raises FileNotFoundError or ValueError if one is missing or they do not match."""
    tokenizer = WordPiece.load(settings.paths.tokenizer)
    train = Store.open(settings.paths.train, tokenizer=tokenizer)
    dev = Store.open(settings.paths.dev, tokenizer=tokenizer) if settings.paths.dev else None
    corpora = open_corpora(settings.corpora, tokenizer, train=train, dev=dev)
    return Data(tokenizer=tokenizer, train=train, dev=dev, corpora=corpora)


def make_context(
    settings: PretrainingConfig,
    data: Data,
    device: torch.device,
    *,
    is_new: bool,
    tables: Mapping[str, int] | None = None,
    ranks: Ranks = ALONE,
) -> RunContext:
    """Build the model and lay out the rows.

    is_new: there is no checkpoint to load weights from.
    tables: lengths of the tables of positions and types in the checkpoint.
    """
    training, seed = settings.training, settings.system.seed
    shapes = shapes_in(settings.config["model"], vocab_size=data.tokenizer.size)
    if shapes is not None:
        check_room(shapes, device)
    model = make(settings.config["model"], "model")
    if tables is not None:
        take_tables(network_of(model), **tables)
    documents = split(data, seed=seed)
    fresh = model.attrs.get("fresh", HEADS)
    if is_new and fresh:
        held_out = documents.dev if data.dev is None else None
        counts = piece_counts(data.train, data.tokenizer.size, without=held_out)
        counts = mixed_counts(counts, data.corpora, settings.corpora)
        start_from_frequencies(network_of(model), counts, mask_rate=training.mask_rate, heads=fresh)
        is_nothing_given = settings.config["model"].get("init") is None
        if is_nothing_given and settings.config["model"].get("initialization") == "corpus":
            others = list(data.corpora.values())
            start_from_neighbours(network_of(model), data.train, counts, seed=seed, without=held_out, others=others)
    move(model, device)
    own, dev = lay_out(data, documents, window=model.attrs["window"], seed=seed)
    train = mixed(own, data.corpora, settings.corpora)
    rows = max(1, round(training.max_epochs * train.rows)) if training.max_epochs else 0
    return RunContext(
        model=model,
        optimizer=training.optimizer,
        train=train,
        dev=dev,
        special=data.tokenizer.special,
        budget=Budget(steps=training.max_steps, rows=rows, seconds=training.max_minutes * 60),
        settings=training,
        device=device,
        ranks=ranks,
        distillation=make_distillation(settings.teacher, model, data.tokenizer, device),
    )


def split(data: Data, *, seed: int) -> Split:
    """Documents of the training set, in its store, and of the dev set, in its own or in that of train."""
    if data.dev is None:
        return split_documents(data.train, seed=seed)
    return Split(train=all_ranges(data.train), dev=all_ranges(data.dev))


def lay_out(data: Data, documents: Split, *, window: int, seed: int) -> tuple[Packing, Packing]:
    """Rows of the training set, without what is mixed into it, and of the dev set."""
    train = Packing(data.train, documents.train, window=window, seed=seed)
    return train, Packing(data.dev or data.train, documents.dev, window=window, seed=seed)


def run_loop(settings: PretrainingConfig, context: RunContext, run: Run, state: State) -> RunResult:
    """Train until the budget is spent, or until Ctrl-C or SIGTERM, which save a checkpoint of the last whole step."""
    pieces_per_row = context.train.epoch_pieces / context.train.rows
    halves = ["generator", "discriminator"] if isinstance(network_of(context.model), Electra) else ["generator"]
    halves += ["teacher"] if context.distillation else []
    is_first, evaluation, was_interrupted = context.ranks.is_first, None, False
    setup = settings.training.logger if is_first else silent
    log = RunLogger(setup, settings.config, halves=halves, pieces_per_row=pieces_per_row)
    alarms = Alarms(first=math.inf if settings.paths.init is not None else first_loss(run.folder))
    with (
        RunProgress(pieces_per_row=pieces_per_row, is_shown=is_first) as progress,
        Interrupts(is_one_of_many=context.ranks.size > 1) as interrupts,
        told_as_interruption(interrupts),
    ):
        for result in train_on_disk(run, context, state):
            state, evaluation = result.state, result.evaluation or evaluation
            if is_first:
                progress(result)
            with progress.aside():
                log(result)
                for alarm in alarms(result) if is_first else ():
                    warn(alarm)
            if context.ranks.any(interrupts.asked) and result.progress < 1.0:
                save_state(run, context, state)
                was_interrupted = context.ranks.any(True)  # none ends before the first has written
                break
    log.finish()
    return RunResult(state=state, evaluation=evaluation, was_interrupted=was_interrupted)


@contextmanager
def told_as_interruption(interrupts: Interrupts) -> Iterator[None]:
    """Raise KeyboardInterrupt for a rank that lost the others after all were interrupted."""
    try:
        yield
    except ConnectionError as error:
        if not interrupts.asked:
            raise
        raise KeyboardInterrupt from error


def card_rows(settings: PretrainingConfig, data: Data, context: RunContext) -> dict[str, Any]:
    """Rows of the model card."""
    taught = {} if settings.teacher is None else {"teacher": settings.teacher.name}
    mixture = {"rows come from": shares_in_words(settings.corpora)} if settings.corpora else {}
    return {
        "version": spacy_electra.__version__,
        "objective": settings.config["model"].get("objective", settings.config["model"]["@architectures"]),
        "corpus": f"{data.train.documents:,} documents, {data.train.pieces:,} pieces",
        **mixture,
        "vocabulary": f"{data.tokenizer.size:,} pieces",
        "window": context.train.window,
        "parameters": f"{parameters_of(context):,}, generator included",
        "rows a step": settings.training.batch_rows,
        "peak learning rate": float(context.optimizer.learn_rate),
        "seed": settings.system.seed,
        "continued from": settings.paths.init or "nothing",
        **taught,
    }


def parameters_of(context: RunContext) -> int:
    return sum(parameter.numel() for parameter in network_of(context.model).parameters())


def announce(settings: PretrainingConfig, context: RunContext, state: State, output: Path) -> None:
    """Print what is about to run."""
    if state.step:
        msg.info(f"Going on at step {state.step:,}, {state.seconds / 60:.1f} minutes into the run")
    training = settings.training
    budgets = {"steps": training.max_steps, "epochs": training.max_epochs, "minutes": training.max_minutes}
    budget = " or ".join(f"{most:,.12g} {unit}" for unit, most in budgets.items() if most)
    msg.info(
        f"Pretraining {parameters_of(context) / 1e6:.1f} M parameters on {context.train.rows:,} rows of "
        f"{context.train.window} pieces, {context.dev.rows:,} held out; {budget} on {context.device}, into {output}"
    )
    if settings.corpora:
        msg.info(f"Rows come from {shares_in_words(settings.corpora)}; epochs are those of train")


def conclude(ended: RunResult, output: Path) -> None:
    """Print how the run ended."""
    scores = ended.evaluation.scores if ended.evaluation else {}
    told = ", ".join(f"{name} {value:.3f}" for name, value in scores.items())
    msg.good(f"{ended.state.step:,} steps in {ended.state.seconds / 60:.1f} minutes: {told}")
    print(f"The pipeline's `name` is {output / LAST / 'discriminator'}")


def resume_command(output: Path, *, gpu_id: int, code: Path | None, processes: int) -> str:
    """The command that resumes the run in `output`, whose config contains the overrides."""
    command = ["spacy", "electra", "pretrain", str(output / RUN_CONFIG), "--output", str(output), "--resume"]
    if gpu_id >= 0:
        command += ["--gpu-id", str(gpu_id)]
    if code is not None:
        command += ["--code", str(code)]
    joined = subprocess.list2cmdline(command) if sys.platform == "win32" else shlex.join(command)
    return f"{'python' if processes == 1 else 'torchrun [its options as before]'} -m {joined}"
