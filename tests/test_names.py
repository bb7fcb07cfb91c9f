"""One name, one thing: no public name of the package is defined in two modules."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import spacy_electra

PACKAGE = Path(spacy_electra.__file__).parent
EVERYWHERE = {"logger", "app"}  # each module's own, by custom


def defined_in(path: Path) -> Iterator[str]:
    """Names of functions, classes and variables at the top level of a module, but for private ones."""
    for node in ast.parse(path.read_text(encoding="utf8")).body:
        match node:
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name) | ast.AnnAssign(target=ast.Name(id=name)):
                names = [name]
            case ast.Assign(targets=targets):
                names = [each.id for target in targets for each in ast.walk(target) if isinstance(each, ast.Name)]
            case _:
                names = []
        yield from (name for name in names if not name.startswith("_"))


def test_no_public_name_stands_twice() -> None:
    places = defaultdict(set)
    for path in PACKAGE.rglob("*.py"):
        for name in defined_in(path):
            places[name].add(str(path.relative_to(PACKAGE)))
    assert {name: sorted(found) for name, found in places.items() if len(found) > 1 and name not in EVERYWHERE} == {}
