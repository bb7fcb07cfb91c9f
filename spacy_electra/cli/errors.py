"""What a command says when something is wrong: one message on standard error, exit status 1, no traceback."""

import functools
import logging
import os
import sys
import time
from collections.abc import Callable, Collection
from typing import ParamSpec

import typer
from click import ClickException
from wasabi.printer import Printer

from spacy_electra.model.keys import nearest

logger = logging.getLogger("spacy_electra")

# Under torchrun, a mistake that every process meets is told by the first one, whose end ends the others; seconds.
WAIT_FOR_THE_FIRST = 3.0

Arguments = ParamSpec("Arguments")


def clear_errors(command: Callable[Arguments, None]) -> Callable[Arguments, None]:
    """Turn the errors that a user can mend into one message; others keep their traceback.

    Those are ValueError, OSError, ImportError, which is what a missing extra raises, and what spaCy's own reading of
    options raises. The traceback is logged at the level DEBUG.
    """

    @functools.wraps(command)
    def run(*args: Arguments.args, **kwargs: Arguments.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except (ValueError, OSError, ImportError, ClickException) as error:
            logger.debug("the command failed", exc_info=True)
            text = error.format_message() if isinstance(error, ClickException) else str(error)
            if os.environ.get("RANK", "0") != "0":
                time.sleep(WAIT_FOR_THE_FIRST)
            print(Printer(no_print=True).fail(text), file=sys.stderr)
            raise typer.Exit(1) from error

    return run


def check_name(name: str, known: Collection[str], *, what: str) -> None:
    """Raise ValueError that names the nearest of `known` where `name` is none of them."""
    if name not in known:
        raise ValueError(
            f"unknown {what} {name!r}: did you mean {nearest(name, known)!r}? Valid are {', '.join(known)}."
        )
