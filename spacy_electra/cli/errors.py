"""Errors of commands: one message on standard error, exit status 1, no traceback."""

import errno
import functools
import logging
import os
import sys
import time
from collections.abc import Callable, Collection
from typing import ParamSpec

import typer
from click import ClickException
from wasabi import msg
from wasabi.printer import Printer

from spacy_electra.model.keys import nearest

logger = logging.getLogger("spacy_electra")

# Under torchrun, a mistake that every process meets is told by the first one, whose end ends the others; seconds.
WAIT_FOR_THE_FIRST = 3.0
INTERRUPTED = 130  # exit status of a command that Ctrl-C ended
EDQUOT = getattr(errno, "EDQUOT", -1)  # Windows has none
REMEDIES = {
    errno.EACCES: "Give a place that you may read and write.",
    errno.EPERM: "Give a place that can be written.",
    errno.EEXIST: "Something else has this name: give another path.",
    errno.EROFS: "Give a place that can be written.",
    errno.ENOSPC: "Free some space or give a place on another disk, then run it again (pretrain: with --resume).",
    EDQUOT: "Free some of your quota or give a place on another disk, then run it again (pretrain: with --resume).",
    errno.EFBIG: "The system allows no larger file there: raise the limit or give a place on another disk.",
    errno.ENOTDIR: "A part of the path is a file: give another path.",
    errno.EISDIR: "It is a folder: give the path of a file.",
}

OUT_OF_MEMORY = (
    "Memory ran out: free some, or ask for less (fewer --processes, a smaller --max-document-mb, a smaller model)."
)

Arguments = ParamSpec("Arguments")


def clear_errors(command: Callable[Arguments, None]) -> Callable[Arguments, None]:
    """Turn the errors that a user can fix into one message; others keep their traceback.

    These are ValueError, OSError, ImportError (for a missing extra), and the errors of spaCy's own option parser. The
    traceback is logged at the level DEBUG.
    """

    @functools.wraps(command)
    def run(*args: Arguments.args, **kwargs: Arguments.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except (ValueError, OSError, ImportError, ClickException) as error:
            logger.debug("the command failed", exc_info=True)
            text = error.format_message() if isinstance(error, ClickException) else _message(error)
            first, *lines = _printable(text).split("\n")
            if os.environ.get("RANK", "0") != "0":
                time.sleep(WAIT_FOR_THE_FIRST)
            print("\n".join([Printer(no_print=True).fail(first), *lines]), file=sys.stderr)
            raise typer.Exit(1) from error
        except MemoryError as error:
            logger.debug("the command failed", exc_info=True)
            print(Printer(no_print=True).fail(OUT_OF_MEMORY), file=sys.stderr)
            raise typer.Exit(1) from error
        except KeyboardInterrupt:
            print(Printer(no_print=True).fail(_interrupted(command.__name__.removesuffix("_cli"))), file=sys.stderr)
            raise typer.Exit(INTERRUPTED) from None

    return run


def warn(text: str) -> None:
    """Print a warning; lines after the first stay as they are."""
    first, *lines = _printable(text).split("\n")
    msg.warn(first)
    for line in lines:
        print(line)


def _printable(text: str) -> str:
    """The text, with lone surrogates escaped, which names of files have if they are not UTF-8."""
    return text.encode("utf8", "backslashreplace").decode("utf8")


def _message(error: Exception) -> str:
    """The message of the error. Errors of the system get the file in front and a remedy at the end."""
    if not isinstance(error, OSError) or error.errno is None or not error.strerror:
        return str(error)
    place = f"{error.filename}: " if error.filename is not None else ""
    return f"{place}{error.strerror[:1].lower()}{error.strerror[1:]}. {REMEDIES.get(error.errno, 'Check the path.')}"


def _interrupted(command: str) -> str:
    what_stays = {
        "tokenize": ": run it again, it resumes (not with --overwrite)",
        "pretrain": ": what it saved stays, continue with --resume",
        "train_tokenizer": ": nothing was written",
        "corpus": ": nothing was written",
        "quantize": ": nothing was written",
    }
    return f"Interrupted{what_stays.get(command, '')}."


def check_name(name: str, known: Collection[str], *, what: str) -> None:
    """Raise ValueError that names the nearest of `known` if `name` is not one of them."""
    if name not in known:
        raise ValueError(
            f"unknown {what} {name!r}: did you mean {nearest(name, known)!r}? Valid are {', '.join(known)}."
        )
