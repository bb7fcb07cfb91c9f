"""Extract English prose from docstrings: removes code, tables, headings and markup. Pure.

Knows reStructuredText, Markdown and doctest, and the parameter lists of Sphinx, NumPy and Google style.
"""

import inspect
import re
from collections.abc import Iterator

# An English sentence of some length has at least one of these; signatures, formulas and other languages have none.
COMMON_WORDS = frozenset(
    re.findall(
        r"\w+",
        "a an and are as at be been both but by can do does each either for from given has have if in into is it its "
        "may must no not of on only or should so such than that the their then there these they this to used was we "
        "when where which while will with you your",
    )
)
LETTER_SHARE = 0.72  # least share of letters and spaces; below it stand code, formulas and tables

_FENCE = re.compile(r"\s*(```|~~~)")
_PROSE_DIRECTIVE = re.compile(r"\s*\.\. (?:attention|caution|hint|important|note|seealso|tip|warning):: *")
_RULE = re.compile(r"\s*([=\-~^\"'`#*+_.:])\1{2,}\s*|[\s=+\-|]{3,}")  # underlines, and the lines of tables
_TABLE = re.compile(r"\s*\|.*\|\s*")
_BULLET = re.compile(r"\s*(?:[-*+•]|\(?\d{1,2}[.)])\s+")
_FIELD = re.compile(r"\s*:(\w+)[^:\n]*:(?!`)\s*")  # :param x: of Sphinx
_TYPE_FIELDS = {"type", "rtype", "vartype"}
_TYPE = r"\([^()]*(?:\([^()]*\)[^()]*)*\)"
_ARGUMENT = re.compile(rf"(?:\s*[\w.*`]+\s{_TYPE}|\s+[\w.*`\[\]]+(?:,\s[\w.*`]+)*(?:\s*{_TYPE})?)\s*:(?:\s+|$)")
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
    """The paragraphs of a docstring that are English prose, one line each.

    min_words: minimum length of a paragraph.
    """
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


def _without_code(lines: list[str]) -> list[str]:
    """The lines without code, directives, tables and headings; a blank line stands where something was."""
    kept: list[str] = []
    number = 0
    while number < len(lines):
        line = lines[number]
        after = _after_dropped(lines, number)
        if after is not None:
            kept.append("")
            number = after
        elif directive := _PROSE_DIRECTIVE.match(line):
            kept += ["", " " * _indent(line) + line[directive.end() :]]
            number += 1
        elif line.rstrip().endswith("::"):
            kept += [line.rstrip()[:-1], ""]
            number = _after_block(lines, number)
        else:
            kept.append(line)
            number += 1
    return kept


def _after_dropped(lines: list[str], number: int) -> int | None:
    """Where to go on if what begins at line `number` is dropped, else None."""
    line = lines[number]
    if fence := _FENCE.match(line):
        return _after_fence(lines, number, fence[1])
    if line.lstrip().startswith(">>>"):
        return _after_blank(lines, number)
    if line.lstrip().startswith("..") and not _PROSE_DIRECTIVE.match(line):
        return _after_block(lines, number)
    if _is_heading(lines, number):
        return number + 2
    return number + 1 if _RULE.fullmatch(line) or _TABLE.fullmatch(line) else None


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
    indent = _indent(lines[number])
    following = (n for n in range(number + 1, len(lines)) if lines[n].strip())
    return next((n for n in following if _indent(lines[n]) <= indent), len(lines))


def _paragraphs(lines: list[str]) -> Iterator[str]:
    """Lines that belong together, joined: apart by blank lines, list items, arguments, and indentation that ends."""
    paragraph: list[str] = []
    indent = 0
    for line, following in zip(lines, [*lines[1:], ""], strict=False):
        rest = _after_mark(line, following, is_deeper=bool(paragraph) and _indent(line) > indent)
        if paragraph and (rest is not None or _indent(line) < indent):
            yield " ".join(paragraph)
            paragraph = []
        text = line.strip() if rest is None else rest.strip()
        if text:
            indent = indent if paragraph else _indent(line)
            paragraph.append(text)
    yield " ".join(paragraph)


def _after_mark(line: str, following: str, *, is_deeper: bool) -> str | None:
    """What stands behind the mark that begins a paragraph: a bullet, an argument's name; None where there is no mark.

    is_deeper: the line is indented below the paragraph that it would end. Empty for lines that only separate.
    """
    is_above_text = bool(following.strip()) and _indent(following) > _indent(line)
    if not line.strip() or _LABEL.fullmatch(line) or (_NUMPY_ARGUMENT.fullmatch(line) and is_above_text):
        return ""
    if field := _FIELD.match(line):
        return "" if field[1] in _TYPE_FIELDS else line[field.end() :]
    if bullet := _BULLET.match(line):
        return line[bullet.end() :]
    if not is_deeper and (argument := _ARGUMENT.match(line)):
        return line[argument.end() :]
    return None


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())
