"""Hugging Face's tokenizer files: a directory <-> a `tokenizers.Tokenizer` that does BERT's WordPiece."""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from spacy_electra.data.files import filled_whole
from spacy_electra.data.tokenizer_checks import check_tokenizer, read_json
from spacy_electra.data.vocabulary import CONTINUATION, LONGEST_WORD, SPECIAL_PIECES

logger = logging.getLogger(__name__)

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt")
_NORMALIZER_KEYS = {  # tokenizer_config.json -> BertNormalizer
    "do_lower_case": "lowercase",
    "strip_accents": "strip_accents",
    "tokenize_chinese_chars": "handle_chinese_chars",
}
_BERTS = ("ElectraTokenizer", "BertTokenizer", "DistilBertTokenizer", "MobileBertTokenizer", "PreTrainedTokenizer")
_USUAL_PARTS = {"word_tokenizer_type": "basic", "subword_tokenizer_type": "wordpiece"}  # of BERT for Japanese
_MODEL_KEYS = ("unk_token", "continuing_subword_prefix", "max_input_chars_per_word")


@dataclass(frozen=True)
class NumberedTokenizer:
    """A tokenizer as it was made or read."""

    tokenizer: Tokenizer
    numbers: Mapping[str, int]  # of all its pieces
    source: str  # its name in messages


def assemble(vocabulary: Mapping[str, int], normalizer: normalizers.Normalizer, *, source: str) -> NumberedTokenizer:
    """BERT's tokenizer over the pieces and their numbers. Raises ValueError naming `source` without [CLS] and [SEP]."""
    model = models.WordPiece(
        dict(vocabulary),
        unk_token=SPECIAL_PIECES["unk"],
        continuing_subword_prefix=CONTINUATION,
        max_input_chars_per_word=LONGEST_WORD,
    )
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(prefix=CONTINUATION)
    check_special(vocabulary, source)
    cls, sep = SPECIAL_PIECES["cls"], SPECIAL_PIECES["sep"]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{cls} $A {sep}",
        pair=f"{cls} $A {sep} $B:1 {sep}:1",
        special_tokens=[(cls, vocabulary[cls]), (sep, vocabulary[sep])],
    )
    tokenizer.add_special_tokens(list(SPECIAL_PIECES.values()))
    return NumberedTokenizer(tokenizer, vocabulary, source)


def check_special(vocabulary: Mapping[str, int], source: str) -> None:
    """Raise ValueError, naming `source`, unless all five special pieces are in the vocabulary."""
    missing = [piece for piece in SPECIAL_PIECES.values() if piece not in vocabulary]
    if missing:
        raise ValueError(
            f"{source} lacks {', '.join(missing)}, expected the five special pieces "
            f"{', '.join(SPECIAL_PIECES.values())}: ELECTRA needs them all; take the vocabulary of an ELECTRA or BERT "
            "model, or train one with `spacy electra train-tokenizer`."
        )


def bert_normalizer(settings: Mapping[str, Any]) -> normalizers.BertNormalizer:
    """The normaliser that `tokenizer_config.json` describes; what it leaves out is as in Hugging Face (uncased)."""
    given = {ours: settings[key] for key, ours in _NORMALIZER_KEYS.items() if key in settings}
    return normalizers.BertNormalizer(**given)


def write_tokenizer(tokenizer: Tokenizer, vocabulary: Sequence[str], directory: Path, *, model_max_length: int) -> None:
    """Write tokenizer.json, tokenizer_config.json, special_tokens_map.json and vocab.txt, all of them or none.

    vocabulary: all pieces in the order of their numbers. model_max_length: pieces that a model takes at once.
    """
    special = {f"{role}_token": piece for role, piece in SPECIAL_PIECES.items()}
    settings = {"tokenizer_class": "ElectraTokenizer", "model_max_length": model_max_length, **special}
    settings |= _settings_of(tokenizer.normalizer)
    texts = {
        "tokenizer.json": tokenizer.to_str(),
        "tokenizer_config.json": json.dumps(settings, indent=2) + "\n",
        "special_tokens_map.json": json.dumps(special, indent=2) + "\n",
        "vocab.txt": "".join(f"{piece}\n" for piece in vocabulary),
    }
    with filled_whole(directory, last="tokenizer.json") as folder:
        for name, text in texts.items():
            (folder / name).write_text(text, encoding="utf-8", newline="\n")


def _settings_of(normalizer: normalizers.Normalizer | None) -> dict[str, Any]:
    """The normaliser in the words of `tokenizer_config.json`, whose readers expect all keys."""
    if isinstance(normalizer, normalizers.BertNormalizer):
        return {key: getattr(normalizer, ours) for key, ours in _NORMALIZER_KEYS.items()}
    return {"do_lower_case": is_uncased(normalizer), "strip_accents": None, "tokenize_chinese_chars": True}


def is_uncased(normalizer: normalizers.Normalizer | None) -> bool:
    """True where upper case is lost."""
    return normalizer is not None and normalizer.normalize_str("A") != "A"


def read_tokenizer(directory: Path) -> NumberedTokenizer:
    """A directory's tokenizer, whose source is the file it was read from.

    Reads `tokenizer.json`, or else `vocab.txt`. As in Hugging Face's `ElectraTokenizerFast`, lower-casing, accents and
    Chinese follow `tokenizer_config.json` where that differs from `tokenizer.json`. Raises FileNotFoundError where
    there is neither file, ValueError where one cannot be read; both name it.
    """
    whole, pieces = directory / "tokenizer.json", directory / "vocab.txt"
    settings = _read_settings(directory / "tokenizer_config.json")
    if whole.is_file():
        found = parse_tokenizer(_read(whole), source=str(whole))
        _follow(settings, found)
        return found
    if pieces.is_file():
        _check_kind(settings, source=str(directory / "tokenizer_config.json"))
        return assemble(_read_vocabulary(pieces), bert_normalizer(settings), source=str(pieces))
    raise FileNotFoundError(
        f"{directory} holds no tokenizer, expected a directory with tokenizer.json or vocab.txt: give the one that "
        "`spacy electra train-tokenizer` wrote, or a Hugging Face ELECTRA directory."
    )


def parse_tokenizer(text: str, *, source: str) -> NumberedTokenizer:
    """The tokenizer of the content of a `tokenizer.json`. Raises ValueError naming `source` where it is none."""
    content = read_json(text, source=source) | {"truncation": None, "padding": None}  # which are not used
    check_tokenizer(content, source=source)
    try:
        quick = _with_vocabulary_apart(content, source=source)
        if quick is not None:
            return quick
        tokenizer = Tokenizer.from_str(json.dumps(content))
    except Exception as error:  # tokenizers raises no narrower class
        raise ValueError(
            f"{source} is no tokenizer.json that the library tokenizers can read ({error}): "
            "copy it again, or upgrade tokenizers where a newer version wrote it."
        ) from error
    return NumberedTokenizer(tokenizer, tokenizer.get_vocab(with_added_tokens=True), source)


def _with_vocabulary_apart(content: Mapping[str, Any], *, source: str) -> NumberedTokenizer | None:
    """What `parse_tokenizer` gives, in two thirds of the time: Python reads the many pieces, `tokenizers` the rest.

    None where that could give another tokenizer: one of another kind, or with pieces beside its model's.
    """
    try:
        model, added = content["model"], content["added_tokens"]
        numbers: dict[str, int] = model["vocab"]
        named = {model["unk_token"]: numbers[model["unk_token"]]}
        named |= {token["content"]: token["id"] for token in added}
        if model["type"] != "WordPiece" or any(numbers[piece] != number for piece, number in named.items()):
            return None
    except (ValueError, KeyError, TypeError):
        return None
    tokenizer = Tokenizer.from_str(json.dumps({**content, "model": model | {"vocab": named}}))
    settings = {key: getattr(tokenizer.model, key) for key in _MODEL_KEYS}
    tokenizer.model = models.WordPiece(numbers, **settings)
    return NumberedTokenizer(tokenizer, numbers, source)


def _check_kind(settings: Mapping[str, Any], *, source: str) -> None:
    """Raise ValueError, naming `source`, where a vocabulary belongs to a tokenizer that cuts texts in another way."""
    kind = str(settings.get("tokenizer_class") or "ElectraTokenizer")
    parts = {key: settings.get(key) or usual for key, usual in _USUAL_PARTS.items()}
    if kind.removesuffix("Fast") not in _BERTS or parts != _USUAL_PARTS:
        told = ", ".join(f"{key}={value}" for key, value in {"tokenizer_class": kind, **parts}.items())
        raise ValueError(
            f"{source} describes another tokenizer than BERT's ({told}): its words and pieces would differ. Take an "
            "ELECTRA or BERT model with the basic WordPiece tokenizer, or train one with `spacy electra "
            "train-tokenizer`."
        )


def _follow(settings: Mapping[str, Any], found: NumberedTokenizer) -> None:
    """Let tokenizer_config.json overrule the normaliser, as Hugging Face does."""
    tokenizer = found.tokenizer
    if not isinstance(tokenizer.normalizer, normalizers.BertNormalizer):
        return
    has = _settings_of(tokenizer.normalizer)
    differing = {key: settings[key] for key in has if key in settings and settings[key] != has[key]}
    if differing:
        logger.warning("%s disagrees with its tokenizer_config.json, which counts: %s", found.source, differing)
        clean = {"clean_text": tokenizer.normalizer.clean_text}
        given = {ours: (has | differing)[key] for key, ours in _NORMALIZER_KEYS.items()}
        tokenizer.normalizer = normalizers.BertNormalizer(**clean, **given)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 (byte {error.start}), expected a text file: copy it again.") from error


def _read_settings(path: Path) -> dict[str, Any]:
    """The content of tokenizer_config.json, empty where there is no such file."""
    if not path.is_file():
        return {}
    settings = read_json(_read(path), source=str(path))
    for key in _NORMALIZER_KEYS:
        may_be_null = key not in settings or key == "strip_accents"
        if not (isinstance(settings.get(key), bool) or (may_be_null and settings.get(key) is None)):
            raise ValueError(f"{path}: {key} is {settings[key]!r:.40}, expected true or false.")
    return settings


def _read_vocabulary(path: Path) -> dict[str, int]:
    """Pieces of vocab.txt, numbered by line from 0. Raises ValueError where a piece stands twice."""
    vocabulary: dict[str, int] = {}
    for number, piece in enumerate(_read(path).rstrip("\n").split("\n")):
        if piece in vocabulary:
            raise ValueError(
                f"{path} has the piece {piece!r} in line {vocabulary[piece] + 1} and again in line {number + 1}, "
                "expected one piece a line: its number would be ambiguous; take the original file."
            )
        vocabulary[piece] = number
    return vocabulary
