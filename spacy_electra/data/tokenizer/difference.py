"""Describe how two tokenizers differ, and check that a store was made with a given tokenizer."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from spacy_electra.data.store.manifest import TOKENIZER
from spacy_electra.data.tokenizer.wordpiece import WordPiece

_SHOWN = 3  # pieces or tokens that are named


def cut_alike(one: WordPiece, other: WordPiece) -> bool:
    """Whether both tokenizers give every text the same pieces with the same numbers."""
    return one.fingerprint == other.fingerprint or not list(_differences(one, other))


def difference(theirs: WordPiece, ours: WordPiece) -> str:
    """Describe how two tokenizers differ, in one line: settings, sizes, the first differing pieces.

    theirs: named first in the description.
    """
    return ", ".join(_differences(theirs, ours)) or "in parts of tokenizer.json that cut no text otherwise"


def check_tokenizer_of_store(fingerprint: str, tokenizer: WordPiece, directory: Path) -> None:
    """Raise ValueError, naming the difference, if the store in `directory` was made with another tokenizer.

    fingerprint: of the tokenizer that made the store, from its manifest.
    """
    if tokenizer.fingerprint == fingerprint:
        return
    own = directory / TOKENIZER
    what, use = "", ""
    try:
        theirs = WordPiece.load(own)
        if theirs.fingerprint == fingerprint:
            what, use = f" ({difference(theirs, tokenizer)})", f"Use the one in {own}, or make"
    except (OSError, ValueError):
        pass
    raise ValueError(
        f"{directory} was made with another vocabulary than the one given{what}: its pieces would mean other text. "
        f"{use or f'Its own in {own} is gone or was changed; make'} the store again with tokenize --overwrite."
    )


def _differences(theirs: WordPiece, ours: WordPiece) -> Iterator[str]:
    """What lets texts have other pieces, or pieces other numbers."""
    for one, other in zip(_facts(theirs), _facts(ours), strict=True):
        if one != other:
            yield f"{one} against {other}"
    yield from _pieces(theirs.vocabulary, ours.vocabulary)
    states = [_behaviour(json.loads(tokenizer.to_json())) for tokenizer in (theirs, ours)]
    yield from (f"another {part}" for part in states[0] if states[0][part] != states[1][part])


def _pieces(theirs: Sequence[str], ours: Sequence[str]) -> Iterator[str]:
    """The first pieces with other numbers, or how many are in both where the numbers say nothing."""
    pairs = list(zip(theirs, ours, strict=False))
    others = [number for number, (one, other) in enumerate(pairs) if one != other]
    if len(others) > _SHOWN and set(theirs) != set(ours):
        yield f"{len(set(theirs) & set(ours)):,} pieces in both"
        return
    for number in others[:_SHOWN]:
        yield "piece {} {!r} against {!r}".format(number, *pairs[number])
    if len(others) > _SHOWN:
        yield f"{len(others):,} pieces in all"


def _facts(tokenizer: WordPiece) -> list[str]:
    added = ", ".join(map(repr, tokenizer.added[:_SHOWN])) + " ..." * (len(tokenizer.added) > _SHOWN)
    return [
        f"{tokenizer.size:,} pieces",
        "cased" if tokenizer.cased else "uncased",
        "accents kept" if tokenizer.keeps_accents else "accents lost",
        f"the added tokens {added}" if added else "no added tokens",
    ]


def _behaviour(state: dict[str, Any]) -> dict[str, Any]:
    """The parts of a tokenizer.json that decide how texts are cut, but for pieces, case and accents."""
    normalizer = dict(state["normalizer"] or {})
    if normalizer.get("type") == "BertNormalizer":  # its other two settings are among `_facts`
        normalizer = {key: normalizer.get(key) for key in ("clean_text", "handle_chinese_chars")}
    settings = ("unk_token", "continuing_subword_prefix", "max_input_chars_per_word")
    return {
        "normalizer": normalizer,
        "pre_tokenizer": state["pre_tokenizer"],
        "model": {key: state["model"].get(key) for key in settings},
        "matching of added tokens": [token for token in state["added_tokens"] if not token["special"]],
    }
