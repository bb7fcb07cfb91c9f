"""Read the docstrings of installed packages by parsing their files; nothing is imported or run."""

import ast
import gc
import os
import sysconfig
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from spacy_electra.data.corpus.prose import prose_of
from spacy_electra.data.processes import spawned_pool, told_if_killed

PASSED_OVER = {"__pycache__", "idle_test", "site-packages", "dist-packages", "test", "tests"}
_FILES_A_TASK = 32
_UNREADABLE = (SyntaxError, ValueError, RecursionError, MemoryError, FileNotFoundError, PermissionError)


@dataclass(frozen=True)
class Module:
    """A Python file and its name in the corpus."""

    path: Path
    source: str  # path below its root, with "/"


def installed_roots() -> list[Path]:
    """Folders of the standard library and of the installed packages, in this order."""
    paths = sysconfig.get_paths()
    return list(dict.fromkeys(Path(paths[name]) for name in ("stdlib", "purelib", "platlib")))


def find_modules(roots: list[Path]) -> list[Module]:
    """The Python files below `roots`, root by root, sorted by name; without tests and hidden files.

    Raises FileNotFoundError if a root is not a folder, ValueError if there is no Python file at all.
    """
    found: dict[Path, Module] = {}
    for root in roots:
        if not root.is_dir():
            raise FileNotFoundError(f"there is no folder {root} to read Python files from: check --from.")
        for path in _python_files(root):
            found.setdefault(path, Module(path=path, source=path.relative_to(root).as_posix()))
    if not found:
        raise ValueError(f"no Python file lies below {', '.join(map(str, roots))}: give --from a folder of packages.")
    return list(found.values())


def _python_files(root: Path) -> list[Path]:
    found = []
    for parent, folders, names in os.walk(root):
        folders[:] = [name for name in folders if name not in PASSED_OVER and not name.startswith(".")]
        found += [Path(parent, name) for name in names if name.endswith(".py") and not name.startswith(".")]
    return sorted(found, key=lambda path: path.relative_to(root).parts)


def read_modules(modules: list[Module], *, min_words: int, processes: int) -> Iterator[list[str] | None]:
    """Yield the result of `read_module` for each module, in order."""
    read = partial(read_module, min_words=min_words)
    if processes == 1:
        yield from map(read, modules)
        return
    with told_if_killed(), spawned_pool(processes) as pool:
        yield from pool.map(read, modules, chunksize=_FILES_A_TASK)


def read_module(module: Module, *, min_words: int) -> list[str] | None:
    """The prose paragraphs of a module's docstrings.

    min_words: minimum length of a paragraph.
    Returns None for a file that this Python version cannot parse, for a dangling link, and without read permission.
    Raises OSError for other failures.
    """
    try:
        strings = list(_documentation(_parse(module.path.read_bytes()).body))
    except _UNREADABLE:
        return None
    texts = (text.replace("\x00", "") for text in strings if _is_text(text))
    return [paragraph for text in texts for paragraph in prose_of(text, min_words=min_words)]


def _parse(content: bytes) -> ast.Module:
    """The syntax tree, with no word about questionable code; twice as fast without the collector of cycles."""
    was_collecting = gc.isenabled()
    gc.disable()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(content)
    finally:
        if was_collecting:
            gc.enable()


def _is_text(text: str) -> bool:
    try:
        text.encode("utf8")
    except UnicodeEncodeError:  # half a surrogate pair
        return False
    return True


def _documentation(body: list[ast.stmt]) -> Iterator[str]:
    """Strings that are statements, and those passed to functions that set docstrings (`add_docstr`, `add_newdoc`)."""
    for statement in body:
        if isinstance(statement, ast.Expr):
            yield from _strings(statement.value)
        for name in ("body", "orelse", "finalbody", "handlers"):
            yield from _documentation(getattr(statement, name, []))


def _strings(value: ast.expr) -> Iterator[str]:
    if isinstance(value, ast.Constant) and isinstance(value.value, str):
        yield value.value
    elif isinstance(value, ast.Call) and "doc" in _name(value.func).lower():
        for argument in value.args:
            yield from _strings(argument)
    elif isinstance(value, ast.Call) and _name(value.func) == "format" and isinstance(value.func, ast.Attribute):
        yield from _strings(value.func.value)  # """...{input}...""".format(**common_arguments)


def _name(function: ast.expr) -> str:
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""
