"""Documentation strings become prose: what is kept, what is dropped, and the command that collects it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from spacy_electra.data.corpus.docstrings import Module, find_modules, read_module, read_modules
from spacy_electra.data.corpus.prose import prose_of, without_markup

Invoke = Callable[..., Any]

PACKAGE = {
    "package/__init__.py": '"""The first sentence of the package is here."""\n',
    "package/a.py": '''
"""The first sentence of the package is here.

The second paragraph of this module is new.
"""
raise RuntimeError("this module must not run")

class A:
    """A class that says what it is for.

    >>> the code of a doctest is not prose
    """
    def method(self):
        """Return the thing that was asked for."""
        if True:
            def inner():
                """Even an inner function has words to say."""

add_docstr(A, r"""A string that is handed over as the documentation.""")
print("A string that is not the documentation of a thing.")
''',
    "package/tests/test_a.py": '"""The documentation of a test is not read."""\n',
    "package/old.py": 'print "The code of another Python is here."\n',
    "package/.hidden/b.py": '"""The documentation of a hidden file is not read."""\n',
}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name, text in PACKAGE.items():
        path = tmp_path / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf8")
    return tmp_path / "tree"


def documents(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text(encoding="utf8").splitlines()]


@pytest.mark.parametrize(
    ("docstring", "expected"),
    [
        ("The mean of\n    all of the values.", ["The mean of all of the values."]),
        ("The first of two.\n\nThe second of two.", ["The first of two.", "The second of two."]),
        ("Title of it\n===========\n\nThe text that is below.", ["The text that is below."]),
        ("The text is here.\n\n>>> the_code(is_not)\nthe output of it is\n", ["The text is here."]),
        (
            "Do it like this::\n\n    the code is in here\n\nThen you are done.",
            ["Do it like this:", "Then you are done."],
        ),
        ("```python\nthe code is in here\n```\nThe text is behind.", ["The text is behind."]),
        (".. code-block:: py\n\n   the code is in here\n\nThe text is behind.", ["The text is behind."]),
        (".. note:: This is what\n   you should know.", ["This is what you should know."]),
        (
            "Parameters\n----------\nx : int, optional\n    The axis to be used\n    for the mean.\n"
            "y : a list of the int\n    The other one of the two.",
            ["The axis to be used for the mean.", "The other one of the two."],
        ),
        (
            "\nArgs:\n    x (int): The axis to be used,\n        for the mean.\n    y: The other one of the two.",
            ["The axis to be used, for the mean.", "The other one of the two."],
        ),
        (
            "x (`int`, *optional*):\n    The axis that is used.\ny (`int`):\n    The other axis.",
            ["The axis that is used."],
        ),
        (":param x: The axis to be used.\n:type x: the type of it", ["The axis to be used."]),
        (
            "- the first of all\n- the second of\n  the items",
            ["the first of all", "the second of the items"],
        ),
        ("| the | table | is here |\n+-----+-------+---------+\nThe text is behind.", ["The text is behind."]),
        ("f(x, y) -> (a, b) = {x: y}, the[0]", []),
        ("numpy scipy pandas torch sklearn jax", []),
        ("Die Achse wird hier benutzt werden.", []),
        ("", []),
    ],
)
def test_sentences_stay_and_the_rest_goes(docstring: str, expected: list[str]):
    assert list(prose_of(docstring, min_words=4)) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a :class:`~torch.nn.Module` of :func:`numpy.mean`", "a Module of numpy.mean"),
        ("see :ref:`the guide <guide-label>`", "see the guide"),
        ("the ``axis`` and `other`", "the axis and other"),
        ("a `link <https://x.y>`_ and [one](https://x.y)", "a link and one"),
        ("[`~Trainer.train`] is **bold** and *lean*", "train is bold and lean"),
        ("pass *args and **kwargs or 2 * 3 * 4", "pass *args and **kwargs or 2 * 3 * 4"),
        ("as shown in [1]_, see [2]", "as shown in, see [2]"),
        ("<Tip>keep  this</Tip>\n now", "keep this now"),
    ],
)
def test_markup_gives_way_to_what_a_reader_sees(text: str, expected: str):
    assert without_markup(text) == expected


def test_paragraphs_need_the_words_asked_for():
    docstring = "Return the mean.\n\nReturn the mean of it."
    assert list(prose_of(docstring, min_words=5)) == ["Return the mean of it."]


def test_modules_are_found_in_order_without_tests_and_hidden_folders(tree: Path):
    assert [module.source for module in find_modules([tree])] == [
        "package/__init__.py",
        "package/a.py",
        "package/old.py",
    ]


def test_every_documentation_string_is_read_and_nothing_runs(tree: Path):
    module = Module(path=tree / "package/a.py", source="package/a.py")
    assert read_module(module, min_words=5) == [
        "The first sentence of the package is here.",
        "The second paragraph of this module is new.",
        "A class that says what it is for.",
        "Return the thing that was asked for.",
        "Even an inner function has words to say.",
        "A string that is handed over as the documentation.",
    ]


def test_a_link_that_leads_nowhere_is_passed_over(electra: Invoke, tree: Path, tmp_path: Path):
    (tree / "package" / "gone.py").symlink_to(tree / "nothing.py")
    (tree / "package" / ".#lock.py").symlink_to("user@host.1")
    assert "2 files cannot be read" in electra("corpus", tmp_path / "c.jsonl", "--from", tree)


def test_several_processes_read_the_same_as_one(tree: Path):
    modules = find_modules([tree])
    alone = list(read_modules(modules, min_words=5, processes=1))
    assert list(read_modules(modules, min_words=5, processes=2)) == alone
    assert alone[2] is None  # another Python's syntax


def test_the_command_keeps_the_first_of_equal_paragraphs_and_counts(electra: Invoke, tree: Path, tmp_path: Path):
    said = electra("corpus", tmp_path / "out" / "c.jsonl", "--from", tree)
    first, second = documents(tmp_path / "out" / "c.jsonl")
    assert first == {"text": "The first sentence of the package is here.", "source": "package/__init__.py"}
    assert second["text"].startswith("The second paragraph of this module is new.\nA class that says")
    words = len(f"{first['text']} {second['text']}".split())
    assert f"Wrote 2 documents of 3 Python files: {words} words" in said
    assert "1 repeated paragraphs left out" in said
    assert "1 files cannot be read, or not as Python of this version" in said


def test_the_same_files_give_the_same_bytes(electra: Invoke, tree: Path, tmp_path: Path):
    for name in ("a.jsonl", "b.jsonl"):
        electra("corpus", tmp_path / name, "--from", tree)
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "b.jsonl").read_bytes()


def test_what_cannot_be_read_or_must_not_be_replaced_is_said(complaint: Invoke, tree: Path, tmp_path: Path):
    out = tmp_path / "c.jsonl"
    assert "there is no folder" in complaint("corpus", out, "--from", tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    assert "no Python file lies below" in complaint("corpus", out, "--from", tmp_path / "empty")
    assert "has prose" in complaint("corpus", out, "--from", tree, "--min-words", 50)
    assert not list(tmp_path.glob("c.jsonl*"))
    assert "written as .jsonl" in complaint("corpus", tmp_path / "c.txt", "--from", tree)
    out.write_text("mine")
    assert "add --overwrite" in complaint("corpus", out, "--from", tree)
    assert out.read_text() == "mine"
