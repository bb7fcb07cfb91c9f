"""Accept only BERT tokenizers in a `tokenizer.json`, before the library `tokenizers` reads it.

That library builds whatever a file names: a regular expression or a table of characters can end the process there.
"""

import json
from collections.abc import Mapping
from typing import Any

SIZE, TEXT, FLAG = "a whole number", "a string", "true or false"
MOST = 2**31 - 1  # a piece's number
MAX_INPUT_CHARS = 10_000  # characters; the time that a word takes grows with its square

_FIELDS: dict[str, dict[str, dict[str, tuple[str, ...]]]] = {  # part -> its kinds -> their fields, null where it may be
    "normalizer": {
        "BertNormalizer": {
            "clean_text": (FLAG,),
            "handle_chinese_chars": (FLAG,),
            "strip_accents": (FLAG, "null"),
            "lowercase": (FLAG,),
        }
    },
    "pre_tokenizer": {"BertPreTokenizer": {}},
    "decoder": {"WordPiece": {"prefix": (TEXT,), "cleanup": (FLAG,)}},
}
_ADDED = {"id": SIZE, "content": TEXT} | dict.fromkeys(
    ("single_word", "lstrip", "rstrip", "normalized", "special"), FLAG
)


def read_json(text: str, *, source: str) -> dict[str, Any]:
    """Parse a JSON object.

    source: name of the file for errors.
    Raises ValueError if `text` is not one; NaN and Infinity are not valid JSON.
    """
    try:
        content = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{source} is broken JSON ({error}), expected an object: copy it again.") from error
    if not isinstance(content, dict):
        raise ValueError(f"{source} is a JSON {type(content).__name__}, expected an object: copy it again.")
    return content


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number")


def check_tokenizer(content: Mapping[str, Any], *, source: str) -> None:
    """Raise ValueError, naming `source` and part, for a tokenizer that is not BERT's."""
    _check_model(content.get("model"), source)
    for part, kinds in _FIELDS.items():
        if content.get(part) is not None:
            _check_part(content[part], kinds, f"{source}: {part}")
    if content.get("post_processor") is not None:
        _check_processor(content["post_processor"], f"{source}: post_processor")
    added = content.get("added_tokens", [])
    if not isinstance(added, list):
        raise ValueError(f"{source}: added_tokens must be a list, but is {added!r:.40}.")
    for token in added:
        if not isinstance(token, dict):
            raise ValueError(f"{source}: added_tokens has {token!r:.40}, expected an object.")
        for key, value in token.items():
            _check_value(value, (_ADDED.get(key, "no such key"),), f"{source}: added_tokens: {key}")
        if "id" not in token or not token.get("content"):
            raise ValueError(f"{source}: added_tokens has {token!r:.80}, which lacks a number or a text.")


def _check_model(model: Any, source: str) -> None:
    place = f"{source}: model"
    kind = model.get("type", "WordPiece") if isinstance(model, dict) else type(model).__name__
    if not isinstance(model, dict) or kind != "WordPiece":
        raise ValueError(
            f"{source} is a {kind!s:.40} tokenizer, expected WordPiece as in BERT and ELECTRA: point to an ELECTRA or "
            "BERT tokenizer, or train one with `spacy electra train-tokenizer`."
        )
    for key in ("unk_token", "continuing_subword_prefix"):
        _check_value(model.get(key), (TEXT,), f"{place}: {key}")
    longest = model.get("max_input_chars_per_word")
    if type(longest) is not int or not 1 <= longest <= MAX_INPUT_CHARS:
        raise ValueError(f"{place}: max_input_chars_per_word is {longest!r:.40}, expected 1 to {MAX_INPUT_CHARS:,}.")
    vocabulary = model.get("vocab")
    numbers = list(vocabulary.values()) if isinstance(vocabulary, dict) else []
    if set(map(type, numbers)) != {int} or min(numbers) < 0 or max(numbers) > MOST:
        raise ValueError(f"{place}: vocab must hold pieces and their numbers, whole and from 0.")
    if len(set(numbers)) != len(numbers):
        raise ValueError(f"{place}: vocab gives several pieces one number: it was edited; take the original.")


def _check_part(part: Any, kinds: Mapping[str, Mapping[str, tuple[str, ...]]], place: str) -> None:
    kind = part.get("type") if isinstance(part, dict) else None
    if not isinstance(kind, str) or kind not in kinds:
        raise ValueError(
            f"{place} is {kind or part!s:.60}, expected {' or '.join(kinds)}: texts would be cut in another way than "
            "BERT's. Take an ELECTRA or BERT tokenizer, or train one with `spacy electra train-tokenizer`."
        )
    for key, value in part.items():
        if key != "type":
            _check_value(value, kinds[kind].get(key, ("no such key",)), f"{place}: {key}")


def _check_processor(part: Any, place: str) -> None:
    """[CLS], the text, [SEP], in either of the two forms that Hugging Face writes."""
    kind = part.get("type") if isinstance(part, dict) else None
    if kind == "BertProcessing":
        is_known = all(_is_numbered(part.get(key)) for key in ("sep", "cls")) and len(part) == 3
    elif kind == "TemplateProcessing":
        special = part.get("special_tokens")
        is_known = (
            len(part) == 4
            and isinstance(special, dict)
            and all(map(_is_special, special.values()))
            and _sequences(part.get("single"), special) == ["A"]
            and _sequences(part.get("pair"), special) == ["A", "B"]
        )
    else:
        raise ValueError(f"{place} is {kind or part!s:.60}, expected TemplateProcessing or BertProcessing.")
    if not is_known:
        raise ValueError(f"{place} is a {kind} of another form than BERT's: {json.dumps(part):.200}.")


def _sequences(template: Any, special: Mapping[str, Any]) -> list[Any] | None:
    """The texts that a template puts between its special pieces; None if it is not a template."""
    if not isinstance(template, list) or not all(isinstance(item, dict) and len(item) == 1 for item in template):
        return None
    items = [(kind, value) for item in template for kind, value in item.items()]
    for kind, value in items:
        if not isinstance(value, dict) or sorted(value) != ["id", "type_id"] or not isinstance(value["id"], str):
            return None
        if type(value["type_id"]) is not int or value["type_id"] not in (0, 1):
            return None
        if kind != "Sequence" and (kind != "SpecialToken" or value["id"] not in special):
            return None
    return [value["id"] for kind, value in items if kind == "Sequence"]


def _is_numbered(pair: Any) -> bool:
    return isinstance(pair, list) and len(pair) == 2 and isinstance(pair[0], str) and _fits(pair[1], SIZE)


def _is_special(token: Any) -> bool:
    if not isinstance(token, dict) or sorted(token) != ["id", "ids", "tokens"] or not isinstance(token["id"], str):
        return False
    ids, tokens = token["ids"], token["tokens"]
    are_lists = isinstance(ids, list) and isinstance(tokens, list) and len(ids) == len(tokens) == 1
    return are_lists and _fits(ids[0], SIZE) and isinstance(tokens[0], str)


def _check_value(value: Any, wanted: tuple[str, ...], place: str) -> None:
    if not any(_fits(value, kind) for kind in wanted):
        raise ValueError(f"{place} is {value!r:.40}, expected {' or '.join(wanted)}.")


def _fits(value: Any, kind: str) -> bool:
    if kind == SIZE:
        return type(value) is int and 0 <= value <= MOST
    return (
        (isinstance(value, str) and kind == TEXT)
        or (isinstance(value, bool) and kind == FLAG)
        or (value is None and kind == "null")
    )
