"""How many rows of a step go through the model at once: as before, as the config says, or as many as memory holds."""

from spacy_electra.model.isolation import isolated
from spacy_electra.model.pretrainer import Batch
from spacy_electra.training.compiling import plain_passes
from spacy_electra.training.context import RunContext
from spacy_electra.training.memory import (
    AUTO,
    asked,
    even_micro_batch,
    free_memory,
    kept_bytes,
    rows_that_fit,
    step_bytes,
)
from spacy_electra.training.state import State
from spacy_electra.training.step import masked_rows


@isolated()
def settle_micro_batch(context: RunContext, state: State) -> None:
    """Decide, once for a context, how many rows go through the model at once: as before, as set, or as many as fit.

    As before where `state` has run with the same setting. All ranks decide alike.
    """
    if context.micro_batch.rows:
        return
    most, setting = context.ranks.largest_share(context.settings.batch_rows), asked(context.settings.micro_batch_size)
    if state.micro_batch_size and state.asked_micro_batch_size == setting:
        rows = state.micro_batch_size
    elif setting != AUTO:
        rows = setting or most
    else:
        free = free_memory(context.device) - step_bytes(context.model.network)
        fit = rows_that_fit(lambda count: _kept(context, count), free=free, most=most)
        rows = even_micro_batch(most, most=fit)
    context.micro_batch.rows = context.ranks.least(min(most, rows))
    # The optimizer's moments are there before the first pass, which may be done again
    context.model.shim.steps.adamw_for(context.optimizer)


def _kept(context: RunContext, count: int) -> int:
    """Bytes that the forward pass of `count` rows keeps. Nothing random is used up by it."""
    rows = context.train.batch(0, count).to(context.device)
    batch = Batch(rows=rows, masked=masked_rows(context, rows), teacher=context.teacher)
    with plain_passes(context.model.shim):
        return kept_bytes(lambda: context.model.begin_update(batch), context.model.network)
