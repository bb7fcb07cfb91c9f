"""English prose from a documentation string: code, tables, headings and markup go, sentences stay. Pure.

Knows reStructuredText, Markdown and doctest, and how Sphinx, NumPy and Google write parameters.
"""

import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass

PROSE_DIRECTIVES = {"attention", "caution", "deprecated", "hint", "important", "note", "seealso", "tip", "warning"}
# An English sentence of some length has at least one of these; signatures, formulas and other languages have none.
COMMON_WORDS = frozenset(
    "a an and are as at be been both but by can do does each either for from given has have if in into is it its may "
    "must no not of on only or should so such than that the their then there these they this to used was we when "
    "where which while will with you your".split()
)
LETTER_SHARE = 0.72  # least share of letters and spaces; below it stand code, formulas and tables

_FENCE = re.compile(r"\s*(```|~~~)")
_DIRECTIVE = re.compile(r"\s*\.\. ?(?:([\w:-]+)::\s*)?(.*)")
_RULE = re.compile(r"\s*([=\-~^\"'`#*+_.:])\1{2,}\s*|[\s=+\-|]{3,}")  # underlines, and the lines of tables
_TABLE = re.compile(r"\s*\|.*\|\s*")
_BULLET = re.compile(r"\s*(?:[-*+•]|\(?\d{1,2}[.)])\s+")
_FIELD = re.compile(r"\s*:(\w+)[^:\n]*:(?!`)\s*")  # :param x: of Sphinx
_TYPE_FIELDS = {"type", "rtype", "vartype"}
_ARGUMENT = re.compile(r"\s+[\w.*`\[\]]+(?:,\s[\w.*`]+)*\s*(?:\([^()]*(?:\([^()]*\)[^()]*)*\))?\s*:(?:\s+|$)")
_LABEL = re.compile(r"\s*[A-Z]\w*(?: \w+){0,2}:\s*")  # Args: and the like, alone on a line
_NUMPY_ARGUMENT = re.compile(r"\s*[^\s:].*? : \S.*")

_MARKUP = [
    (re.compile(r":[\w:+-]+:`([^`]+)`"), lambda match: _role(match[1])),
    (re.compile(r"``(.+?)``"), lambda match: match[1]),
    (re.compile(r"\[?`([^`]+)`\]?_{0,2}"), lambda match: _role(match[1])),
    (re.compile(r"!?\[([^\]\n]+)\]\([^)\s]*\)"), lambda match: match[1]),
    (re.compile(r"\s*\[[\w#*]+\]_(?!\w)"), lambda match: ""),
    (re.compile(r"\*\*(\S(?:[^*]*\S)?)\*\*"), lambda match: match[1]),
    (re.compile(r"(?<![\w*])\*(\S(?:[^*]*[^*\s])?)\*(?![\w*])"), lambda match: match[1]),
    (re.compile(r"</?[A-Za-z][^<>]*>"), lambda match: ""),
    (re.compile(r"\\([*_`|<>\\])"), lambda match: match[1]),
    (re.compile(r"\s+"), lambda match: " "),
]


def prose_of(docstring: str, *, min_words: int) -> Iterator[str]:
    """The paragraphs of a documentation string that are English prose of at least `min_words` words, one line each."""
    for paragraph in _paragraphs(_without_code(inspect.cleandoc(docstring).splitlines())):
        text = without_markup(paragraph)
        if is_prose(text, min_words=min_words):
            yield text


def without_markup(text: str) -> str:
    """The text without roles, links and emphasis, its white space collapsed."""
    for pattern, replacement in _MARKUP:
        text = pattern.sub(replacement, text)
    return text.strip()


def _role(text: str) -> str:
    """What a reader sees of a role's text: the title of `title <target>`, the last name of `~package.module.name`."""
    title = re.sub(r"\s*<[^<>]*>$", "", text) or text
    return title[1:].rsplit(".", 1)[-1] if title.startswith("~") else title.removeprefix("!")


def is_prose(text: str, *, min_words: int) -> bool:
    """Whether a paragraph reads as English and not as code, a formula, a table or a list of names."""
    words = text.split()
    if len(words) < min_words or not (text[0].isalnum() or text[0] in "\"'("):
        return False
    plain = sum(map(str.isalpha, text)) + len(words) - 1
    return plain >= LETTER_SHARE * len(text) and not COMMON_WORDS.isdisjoint(word.lower() for word in words)


@dataclass(frozen=True)
class _Line:
    text: str

    @property
    def indent(self) -> int:
        return len(self.text) - len(self.text.lstrip())

    @property
    def is_blank(self) -> bool:
        return not self.text.strip()


def _without_code(lines: list[str]) -> list[str]:
    """The lines without code, directives, tables and headings; a blank line stands where something was."""
    kept: list[str] = []
    number = 0
    while number < len(lines):
        line = lines[number]
        if fence := _FENCE.match(line):
            number = _after_fence(lines, number, fence[1])
        elif line.lstrip().startswith(">>>"):
            number = _after_blank(lines, number)
        elif line.lstrip().startswith(".."):
            directive = _DIRECTIVE.match(line)
            is_prose_block = directive is not None and directive[1] in PROSE_DIRECTIVES
            kept.append(" " * _Line(line).indent + directive[2] if directive and is_prose_block else "")
            number = number + 1 if is_prose_block else _after_block(lines, number)
            continue
        elif _is_heading(lines, number):
            number += 2
        elif _RULE.fullmatch(line) or _TABLE.fullmatch(line):
            number += 1
        elif line.rstrip().endswith("::"):
            kept.append(line.rstrip()[:-1])
            number = _after_block(lines, number)
        else:
            kept.append(line)
            number += 1
            continue
        kept.append("")
    return kept


def _is_heading(lines: list[str], number: int) -> bool:
    """A title that is underlined on the next line."""
    if number + 1 == len(lines) or not lines[number].strip():
        return False
    under = lines[number + 1].strip()
    return bool(_RULE.fullmatch(under)) and len(under) >= min(4, len(lines[number].strip()))


def _after_fence(lines: list[str], number: int, fence: str) -> int:
    following = range(number + 1, len(lines))
    return next((n + 1 for n in following if lines[n].lstrip().startswith(fence)), len(lines))


def _after_blank(lines: list[str], number: int) -> int:
    return next((n for n in range(number, len(lines)) if not lines[n].strip()), len(lines))


def _after_block(lines: list[str], number: int) -> int:
    """The first line after `number` that is neither blank nor indented deeper."""
    indent = _Line(lines[number]).indent
    following = (n for n in range(number + 1, len(lines)) if lines[n].strip())
    return next((n for n in following if _Line(lines[n]).indent <= indent), len(lines))


def _paragraphs(lines: list[str]) -> Iterator[str]:
    """Lines that belong together, joined: apart by blank lines, list items, arguments, and indentation that ends."""
    paragraph: list[str] = []
    indent = 0
    for number, text in enumerate(lines):
        line = _Line(text)
        is_deeper = bool(paragraph) and line.indent > indent
        following = _Line(lines[number + 1]) if number + 1 < len(lines) else _Line("")
        if line.is_blank or _LABEL.fullmatch(text):
            starts, text = True, ""
        elif _NUMPY_ARGUMENT.fullmatch(text) and not following.is_blank and following.indent > line.indent:
            starts, text = True, ""
        elif field := _FIELD.match(text):
            starts, text = True, "" if field[1] in _TYPE_FIELDS else text[field.end() :]
        elif bullet := _BULLET.match(text):
            starts, text = True, text[bullet.end() :]
        elif not is_deeper and (argument := _ARGUMENT.match(text)):
            starts, text = True, text[argument.end() :]
        else:
            starts = bool(paragraph) and line.indent < indent
        if starts:
            yield " ".join(paragraph)
            paragraph = []
        if text.strip():
            indent = indent if paragraph else line.indent
            paragraph.append(text.strip())
    yield " ".join(paragraph)
