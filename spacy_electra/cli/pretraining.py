"""The work of `spacy electra pretrain`: from config, store and device to a run on disk."""

import math
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from spacy.cli._util import import_code, parse_config_overrides
from wasabi import msg

from spacy_electra.cli import outputs
from spacy_electra.cli.device import choose_rank_device, say_if_cupy_is_missing
from spacy_electra.cli.errors import INTERRUPTED, warn
from spacy_electra.cli.folder_kinds import RUN, check_kind
from spacy_electra.cli.interrupts import Interrupts
from spacy_electra.cli.loggers import RunLogger, silent
from spacy_electra.cli.progress import RunProgress
from spacy_electra.cli.resuming import check_teacher, read_stored_run, resume_config, write_run_config
from spacy_electra.cli.run_messages import RunResult, announce, card_rows, conclude, resume_command
from spacy_electra.cli.run_setup import make_context, open_data
from spacy_electra.cli.settings import PretrainingConfig, read_pretraining_config
from spacy_electra.cli.unknown import check_unknown
from spacy_electra.model.network.electra import Electra
from spacy_electra.training.compiling import compile_training, is_wanted
from spacy_electra.training.context import RunContext
from spacy_electra.training.distributed import join, leave
from spacy_electra.training.malloc import keep_freed_memory
from spacy_electra.training.micro_batches import settle_micro_batch
from spacy_electra.training.monitor import Alarms
from spacy_electra.training.run import (
    Run,
    check_run_folder,
    finish,
    first_loss,
    held,
    restore,
    save_state,
    train_on_disk,
)
from spacy_electra.training.state import State


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
        compile_training(context.model.shim)
    with held(output) if context.ranks.is_first else nullcontext():
        check_run_folder(output, resume=resume)
        if context.ranks.is_first and (read_stored_run(output) is None) != (beginning is None):
            raise ValueError(f"another process has written into {output} meanwhile: start again to resume it.")
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
        msg.warn(f"Interrupted after {ended.state.step:,} steps, which are saved. Resume with:")
    elif is_first:
        conclude(ended, output)
    return ended.was_interrupted


def run_loop(settings: PretrainingConfig, context: RunContext, run: Run, state: State) -> RunResult:
    """Train until the budget is spent, or until Ctrl-C or SIGTERM, which save a checkpoint of the last whole step."""
    pieces_per_row = context.train.epoch_pieces / context.train.rows
    halves = ["generator", "discriminator"] if isinstance(context.model.network, Electra) else ["generator"]
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
