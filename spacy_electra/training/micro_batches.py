"""Set the micro-batch of a run: its earlier size, the size in the config, or as many rows as memory holds."""

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
    """Set the micro-batch once for a context; all ranks take the same.

    It is the earlier size if `state` has run with the same setting.
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
    """Bytes that the forward pass of `count` rows keeps. Uses no random state."""
    rows = context.train.batch(0, count).to(context.device)
    batch = Batch(rows=rows, masked=masked_rows(context, rows), teacher=context.teacher)
    with plain_passes(context.model.shim):
        return kept_bytes(lambda: context.model.begin_update(batch), context.model.network)
