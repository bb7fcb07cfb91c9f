"""Read a directory's tokenizer settings in the order of Hugging Face's `AutoTokenizer`.

Takes a directory, returns the class of the tokenizer, its settings and the tokens to add. Settings under which it would
differ from BERT's WordPiece are refused by name.

Source: `transformers` 4.53, `AutoTokenizer.from_pretrained`, `PreTrainedTokenizerBase._from_pretrained` and
`PreTrainedTokenizerFast.__init__`.
"""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tokenizers import AddedToken

from spacy_electra.data.tokenizer.checks import read_json
from spacy_electra.data.tokenizer.train import SPECIAL_PIECES

SETTINGS, MODEL_SETTINGS = "tokenizer_config.json", "config.json"
SPECIAL_MAP, ADDED = "special_tokens_map.json", "added_tokens.json"
NORMALIZER_KEYS = {  # tokenizer_config.json -> BertNormalizer
    "do_lower_case": "lowercase",
    "strip_accents": "strip_accents",
    "tokenize_chinese_chars": "handle_chinese_chars",
}
DEFAULTS = {"do_lower_case": True, "strip_accents": None, "tokenize_chinese_chars": True}  # of BertTokenizerFast
_BERTS = ("ElectraTokenizer", "BertTokenizer", "DistilBertTokenizer", "MobileBertTokenizer")
_PLAIN = "PreTrainedTokenizer"  # does what tokenizer.json says
_MODELS = ("electra", "bert", "distilbert", "mobilebert", "ernie", "megatron-bert", "nezha", "qdqbert", "visual_bert")
_USUAL_PARTS = {"word_tokenizer_type": "basic", "subword_tokenizer_type": "wordpiece"}  # of BERT for Japanese
_FURTHER_ROLES = ("bos_token", "eos_token")  # that BERT's rows do not use
_FLAGS = ("content", "single_word", "lstrip", "rstrip", "normalized", "special")


@dataclass(frozen=True)
class TokenizerSettings:
    """The tokenizer of a directory, without its pieces."""

    overrules: bool = False  # whether `normalizer` counts more than what tokenizer.json says
    normalizer: Mapping[str, bool | None] = field(default_factory=lambda: dict(DEFAULTS))
    added: tuple[AddedToken, ...] = ()  # tokens to add, in this order; none of the five special pieces
    splits_special: bool = False  # special tokens in a text are text, the added ones as well


def read_tokenizer_settings(directory: Path, *, stored: Mapping[int, AddedToken]) -> TokenizerSettings:
    """Read tokenizer_config.json, config.json, special_tokens_map.json and added_tokens.json, if they exist.

    stored: the added tokens of tokenizer.json by number.
    Raises ValueError, naming the file, if one is damaged or describes another tokenizer than BERT's WordPiece.
    """
    settings = read_object(directory / SETTINGS)
    model = {} if settings.get("tokenizer_class") else read_object(directory / MODEL_SETTINGS)
    _check_code(settings, directory / SETTINGS)
    _check_code(model, directory / MODEL_SETTINGS)
    kind = _kind(settings, model, directory)
    _check_versions(settings, directory / SETTINGS)
    is_described = any((directory / name).is_file() for name in (SETTINGS, MODEL_SETTINGS))
    roles, tokens = _tokens(settings, stored, directory)
    _check_roles(roles, directory)
    return TokenizerSettings(
        overrules=is_described and kind in _BERTS,
        normalizer=_normalizer(settings, directory / SETTINGS),
        added=tuple(token for token in tokens if token.content not in SPECIAL_PIECES.values()),
        splits_special=bool(settings.get("split_special_tokens")),
    )


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file; empty if there is no such file. Raises ValueError for anything else."""
    return read_json(read_utf8(path), source=str(path)) if path.is_file() else {}


def read_utf8(path: Path) -> str:
    """The text of a UTF-8 file. Raises ValueError for another encoding."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 (byte {error.start}), expected a text file: copy it again.") from error


def _check_code(settings: Mapping[str, Any], path: Path) -> None:
    """Raise ValueError where a tokenizer brings its own code, which is never run."""
    code = settings.get("auto_map")
    code = code.get("AutoTokenizer") if isinstance(code, Mapping) else code
    if code:
        raise ValueError(
            f"{path} has auto_map {code!r}: this tokenizer runs code of its own, which is never run here. Take a model "
            "with BERT's WordPiece tokenizer; where its tokenizer is BERT's, remove auto_map from a copy."
        )


def _kind(settings: Mapping[str, Any], model: Mapping[str, Any], directory: Path) -> str:
    """The class that `AutoTokenizer` would make, without "Fast". Raises ValueError where it is none of BERT's."""
    path, told = directory / SETTINGS, settings
    kind = settings.get("tokenizer_class")
    if kind is None and (kind := model.get("tokenizer_class")) is not None:
        path, told = directory / MODEL_SETTINGS, model
    if kind is None and model.get("model_type", _MODELS[0]) not in _MODELS:
        path, kind = directory / MODEL_SETTINGS, f"that of model_type={model['model_type']}"
    kind = str(kind or _BERTS[0]).removesuffix("Fast")
    parts = {key: told.get(key) or usual for key, usual in _USUAL_PARTS.items()}
    if kind not in (*_BERTS, _PLAIN) or parts != _USUAL_PARTS:
        facts = ", ".join(f"{key}={value}" for key, value in {"tokenizer_class": kind, **parts}.items())
        raise ValueError(
            f"{path} describes another tokenizer than BERT's ({facts}): its words and pieces would differ. Take an "
            "ELECTRA or BERT model with the basic WordPiece tokenizer, or train one with `spacy electra "
            "train-tokenizer`."
        )
    return kind


def _check_versions(settings: Mapping[str, Any], path: Path) -> None:
    others = [name for name in settings.get("fast_tokenizer_files") or () if name != "tokenizer.json"]
    if others:
        raise ValueError(
            f"{path} names several tokenizers (fast_tokenizer_files: {', '.join(others)}), one for each version of "
            "transformers: save it again with the newest, which writes one tokenizer.json."
        )


def _normalizer(settings: Mapping[str, Any], path: Path) -> dict[str, bool | None]:
    """The three settings of BERT's normaliser; what is left out is as in Hugging Face (uncased)."""
    found = {key: settings.get(key, default) for key, default in DEFAULTS.items()}
    for key, value in found.items():
        if not isinstance(value, bool) and (value is not None or key != "strip_accents"):
            also = ", or null" if key == "strip_accents" else ""
            raise ValueError(f"{path}: {key} must be true or false{also}, but is {json.dumps(value)}: correct it.")
    return found


def _tokens(
    settings: Mapping[str, Any], stored: Mapping[int, AddedToken], directory: Path
) -> tuple[dict[str, Any], list[AddedToken]]:
    """The token of each role, and all tokens that are added to the pieces, in this order.

    stored: those of tokenizer.json by number. `added_tokens_decoder` takes the place of the two older files.
    """
    roles = {key: settings[key] for key in (*_named_roles(), *_FURTHER_ROLES) if settings.get(key)}
    further = list(settings.get("additional_special_tokens") or ())
    path = directory / SETTINGS
    if "added_tokens_decoder" in settings:
        decoder = settings["added_tokens_decoder"]
        if not isinstance(decoder, Mapping) or not all(str(number).isdecimal() for number in decoder):
            raise ValueError(f"{path}: added_tokens_decoder must be an object of numbers and tokens: correct it.")
        listed = {int(number): _token(token, path) for number, token in decoder.items()}
    else:
        path = directory / SPECIAL_MAP
        older = read_object(path)
        further += [token for token in older.get("additional_special_tokens") or () if token not in further]
        roles |= {key: older[key] for key in (*_named_roles(), *_FURTHER_ROLES) if older.get(key)}
        names = {_content(token, path) for token in (*roles.values(), *further)}
        listed = _listed_alone(directory / ADDED, special=names) | dict(stored)
    extra = settings.get("extra_special_tokens") or {}
    known = {token.content for token in listed.values()}
    named = [roles[key] for key in _FURTHER_ROLES if key in roles and _content(roles[key], path) not in known]
    special = [*named, *further, *(extra.values() if isinstance(extra, Mapping) else extra)]
    ordered = [listed[number] for number in sorted(listed)]
    return roles, list(_merged(ordered, special, {token.content for token in stored.values()}, path))


def _listed_alone(path: Path, *, special: Collection[str]) -> dict[int, AddedToken]:
    """The tokens of added_tokens.json by number."""
    numbers = read_object(path)
    if strange := [token for token, number in numbers.items() if not isinstance(number, int)]:
        raise ValueError(f"{path}: expected a number for the token {strange[0]!r}, but got {numbers[strange[0]]!r}.")
    return {
        number: AddedToken(token, normalized=token not in special, special=token in special)
        for token, number in numbers.items()
    }


def _merged(
    listed: Sequence[AddedToken], special: Sequence[Any], stored: Collection[str], path: Path
) -> Iterator[AddedToken]:
    """The listed tokens, special where one of `special` has the same text, then the rest of these."""
    tokens = [_token(token, path) for token in special]
    names = {token.content for token in tokens}
    for token in listed:
        token.special = token.special or token.content in names
        yield token
    known = {token.content for token in listed} | set(stored)
    for given, token in zip(special, tokens, strict=True):
        if isinstance(given, Mapping) or token.content not in known:
            token.special = True
            yield token


def _token(token: Any, path: Path) -> AddedToken:
    """An added token as these files write it: a text, or an object with flags. Raises ValueError for other things."""
    if isinstance(token, str):
        return AddedToken(token, special=True, normalized=False)
    content = _content(token, path)
    flags = {key: token[key] for key in _FLAGS[1:] if key in token}
    if strange := [key for key, flag in flags.items() if not isinstance(flag, bool)]:
        raise ValueError(f"{path}: {strange[0]} of the token {content!r} must be true or false: correct it.")
    return AddedToken(content, **flags)


def _content(token: Any, path: Path) -> str:
    content = token.get("content") if isinstance(token, Mapping) else token
    if not isinstance(content, str):
        raise ValueError(f"{path}: expected a token as a text or as an object with content, but got {token!r}.")
    return content


def _named_roles() -> dict[str, str]:
    return {f"{role}_token": piece for role, piece in SPECIAL_PIECES.items()}


def _check_roles(roles: Mapping[str, Any], directory: Path) -> None:
    """Raise ValueError where a special piece has another name than in BERT and ELECTRA."""
    for key, piece in _named_roles().items():
        given = _content(roles.get(key, piece), directory)
        if given != piece:
            raise ValueError(
                f"{directory}: {key} is {given!r} in {SETTINGS} or {SPECIAL_MAP}, expected {piece!r}: other special "
                "pieces are not supported. Take a model with BERT's five."
            )
