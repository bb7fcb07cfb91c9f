"""CoNLL-U files as sentences. Takes a path, plain or .gz, gives `Sentence`s; knows nothing of spaCy.

Multi-word tokens (`8-9`) and empty nodes (`8.1`) leave no word of their own; a multi-word token only says that its
words stand without spaces and whether one follows. https://universaldependencies.org/format.html
"""

import gzip
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

COLUMNS = 10
ENTITY = "name"  # key in MISC: name=B-PER, as `spacy convert -c conllu` reads it


@dataclass(frozen=True)
class Word:
    """A syntactic word. `head` counts words from 1; 0 is the root."""

    form: str
    lemma: str
    upos: str
    xpos: str
    feats: str  # "" where there are none
    head: int
    deprel: str
    entity: str  # "O", "B-LABEL" or "I-LABEL"
    space_after: bool


@dataclass(frozen=True)
class Sentence:
    """Words with what the comment lines say."""

    id: str
    document: str  # id of the document it stands in; the sentence's own where the file names no documents
    comments: dict[str, str] = field(default_factory=dict)
    words: tuple[Word, ...] = ()

    @property
    def text(self) -> str:
        """What forms and spaces say, without a space at the end."""
        return "".join(word.form + " " * word.space_after for word in self.words).rstrip(" ")

    @property
    def has_entities(self) -> bool:
        return any(word.entity != "O" for word in self.words)


def open_text(path: Path) -> Iterator[str]:
    """The lines of a UTF-8 file, plain or .gz, without their ends; x.gz is read where x is asked for and not there.

    Raises FileNotFoundError where there is neither, ValueError where the packed file is damaged.
    """
    packed = path.with_name(path.name + ".gz")
    if not path.is_file() and packed.is_file():
        path = packed
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}, nor one with .gz behind its name.")
    try:
        with gzip.open(path, "rt", encoding="utf8") if path.suffix == ".gz" else path.open(encoding="utf8") as file:
            for line in file:
                yield line.rstrip("\r\n")
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path} is damaged ({error}): remove it and fetch it again.") from error


def read_blocks(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Groups of lines between blank lines, each with the number of its first line."""
    block: list[str] = []
    for number, line in enumerate(open_text(path), 1):
        if line.strip():
            block.append(line)
        elif block:
            yield number - len(block), block
            block = []
    if block:
        yield number - len(block) + 1, block


def read_sentences(path: Path) -> Iterator[Sentence]:
    """The sentences of a CoNLL-U file in its order. Raises ValueError that names file and line of a malformed one."""
    document: str | None = None
    for first, block in read_blocks(path):
        comments = read_comments(block)
        document = comments.get("newdoc id", comments.get("newdoc", document))
        words = _read_words(path, first, block)
        identifier = comments.get("sent_id", f"{path.name}:{first}")
        yield Sentence(identifier, document or identifier, comments, words)


def read_comments(block: list[str]) -> dict[str, str]:
    """`# key = value` lines."""
    pairs = (line[1:].partition("=") for line in block if line.startswith("#"))
    return {key.strip(): value.strip() for key, _, value in pairs}


def _read_words(path: Path, first: int, block: list[str]) -> tuple[Word, ...]:
    words: list[Word] = []
    joined_until, space_after_joined = 0, True
    for number, line in enumerate(block, first):
        if line.startswith("#"):
            continue
        columns = line.split("\t")
        if len(columns) != COLUMNS:
            raise ValueError(
                f"{path}:{number}: expected the {COLUMNS} tab-separated columns of CoNLL-U, but got {len(columns)}."
            )
        place, misc = columns[0], _read_pairs(columns[9])
        space_after = misc.get("SpaceAfter") != "No"
        if "-" in place:
            joined_until, space_after_joined = int(place.split("-")[1]), space_after
        elif "." not in place:
            if len(words) + 1 < joined_until:
                space_after = False
            elif len(words) + 1 == joined_until:
                space_after = space_after_joined
            words.append(_read_word(f"{path}:{number}", columns, misc, space_after=space_after, place=len(words) + 1))
    if wrong := next((word for word in words if word.head > len(words)), None):
        raise ValueError(
            f"{path}:{first}: the head of {wrong.form!r} is {wrong.head}, but there are {len(words)} words."
        )
    return tuple(words)


def _read_word(where: str, columns: list[str], misc: dict[str, str], *, space_after: bool, place: int) -> Word:
    form, lemma, upos, xpos, feats, head, deprel = columns[1:8]
    if columns[0] != str(place) or not head.isdigit():
        raise ValueError(f"{where}: expected word {place} with a number as its head, but got {columns[0]!r}, {head!r}.")
    return Word(
        form=form,
        lemma=form if lemma == "_" else lemma,
        upos=upos,
        xpos=xpos,
        feats="" if feats == "_" else feats,
        head=int(head),
        deprel=deprel,
        entity=misc.get(ENTITY, "O"),
        space_after=space_after,
    )


def _read_pairs(column: str) -> dict[str, str]:
    pairs = (pair.partition("=") for pair in column.split("|"))
    return {key: value for key, _, value in pairs}
