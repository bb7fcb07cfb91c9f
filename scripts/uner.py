"""Entities that are published apart from their treebank, as Universal NER does, merged onto its sentences.

Reads both layouts: `.iob2` with `# sent_id` and the columns number, token, tag, …; and `.iob` with token and tag alone.
Tokens may be cut otherwise than the treebank's: entities are carried over by characters.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from treebank import Sentence, Word, read_blocks, read_comments


@dataclass(frozen=True)
class Annotated:
    """A sentence's tokens with their tags in IOB2. `id` is empty where the file has none."""

    where: str  # file and line
    id: str
    tokens: tuple[str, ...]
    tags: tuple[str, ...]


def read_annotated(path: Path, *, ignore: frozenset[str]) -> Iterator[Annotated]:
    """The sentences of an IOB2 file. Labels in `ignore`, and the label "O" of UNER's first version, count as outside.

    Raises ValueError that names file and line of a row with another number of columns, or a tag that is not IOB2.
    """
    for first, block in read_blocks(path):
        rows = [(number, line.split("\t")) for number, line in enumerate(block, first) if not _is_comment(line)]
        cells = [_cells(path, number, columns) for number, columns in rows]
        yield Annotated(
            where=f"{path}:{first}",
            id=read_comments([line for line in block if _is_comment(line)]).get("sent_id", ""),
            tokens=tuple(token for token, _ in cells),
            tags=_valid_tags(f"{path}:{first}", [tag for _, tag in cells], ignore | {"O"}),
        )


def _is_comment(line: str) -> bool:
    return line.startswith("# ")


def _cells(path: Path, number: int, columns: list[str]) -> tuple[str, str]:
    if len(columns) == 2:
        return columns[0], columns[1]
    if len(columns) >= 3 and columns[0].isdigit():
        return columns[1], columns[2]
    raise ValueError(f"{path}:{number}: expected token TAB tag, or number TAB token TAB tag, but got {columns!r}.")


def _valid_tags(where: str, tags: list[str], ignore: frozenset[str]) -> tuple[str, ...]:
    valid: list[str] = []
    for tag in tags:
        kind, _, label = tag.partition("-")
        if tag == "O" or (kind in ("B", "I") and label in ignore):
            valid.append("O")
        elif label and (kind == "B" or (kind == "I" and valid and valid[-1][2:] == label)):
            valid.append(tag)
        else:
            raise ValueError(f"{where}: the tag {tag!r} does not follow IOB2 here: an entity begins with B-LABEL.")
    return tuple(valid)


def merge_entities(sentences: list[Sentence], annotated: list[Annotated]) -> list[Sentence]:
    """The sentences with the entities of `annotated`: matched by id where that file has ids, else by order.

    Raises ValueError where a sentence has no partner, or another text than its partner.
    """
    if all(one.id for one in annotated):
        by_id = {one.id: one for one in annotated}
        if missing := [sentence.id for sentence in sentences if sentence.id not in by_id]:
            raise ValueError(
                f"{len(missing)} sentences have no entities, the first is {missing[0]}: "
                f"take treebank and entities of the same split and release."
            )
        partners = [by_id[sentence.id] for sentence in sentences]
    elif len(annotated) == len(sentences):
        partners = annotated
    else:
        raise ValueError(
            f"the treebank has {len(sentences)} sentences, the entities have {len(annotated)}, without ids to match "
            f"them by: take treebank and entities of the same split and release."
        )
    return [_with_entities(sentence, one) for sentence, one in zip(sentences, partners, strict=True)]


def _with_entities(sentence: Sentence, annotated: Annotated) -> Sentence:
    ours, theirs = _characters([w.form for w in sentence.words]), _characters(annotated.tokens)
    if "".join(ours) != "".join(theirs):
        raise ValueError(
            f"{annotated.where}: {''.join(theirs)[:60]!r} is not the text of {sentence.id}, {''.join(ours)[:60]!r}: "
            f"take treebank and entities of the same split and release."
        )
    tags = _carry_over(ours, theirs, annotated.tags)
    words = tuple(_tagged(word, tag) for word, tag in zip(sentence.words, tags, strict=True))
    return replace(sentence, words=words)


def _tagged(word: Word, tag: str) -> Word:
    return replace(word, entity=tag)


def _characters(tokens: tuple[str, ...] | list[str]) -> list[str]:
    """Tokens without white space, which the two may hold differently."""
    return ["".join(token.split()) for token in tokens]


def _carry_over(ours: list[str], theirs: list[str], tags: tuple[str, ...]) -> list[str]:
    """Tags for `ours`: a token takes the entity of its first character that is in one."""
    entities: list[tuple[int, str] | None] = []  # for each character, number and label of its entity
    count = 0
    for token, tag in zip(theirs, tags, strict=True):
        count += tag.startswith("B-")
        entities += [None if tag == "O" else (count, tag[2:])] * len(token)
    carried: list[str] = []
    start, previous = 0, None
    for token in ours:
        found = next((entity for entity in entities[start : start + len(token)] if entity), None)
        carried.append("O" if found is None else f"{'I' if found == previous else 'B'}-{found[1]}")
        start, previous = start + len(token), found
    return carried
