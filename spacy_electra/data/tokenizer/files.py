"""Read and write Hugging Face's tokenizer files of BERT's WordPiece as a `tokenizers.Tokenizer`."""

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from spacy_electra.data.atomic_folder import replaced_folder, settle
from spacy_electra.data.checksums import check_checksum, write_checksums
from spacy_electra.data.tokenizer.checks import check_tokenizer, read_json
from spacy_electra.data.tokenizer.settings import NORMALIZER_KEYS, TokenizerSettings, read_tokenizer_settings, read_utf8
from spacy_electra.data.tokenizer.train import CONTINUATION, LONGEST_WORD, SPECIAL_PIECES

logger = logging.getLogger(__name__)

CHECKSUMS = "tokenizer.sha256"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt", CHECKSUMS)
FETCHED_FILES = (*TOKENIZER_FILES, "added_tokens.json")  # what is read, as far as it is there
STALE = FETCHED_FILES  # of a tokenizer that another one replaces
_MODEL_KEYS = ("unk_token", "continuing_subword_prefix", "max_input_chars_per_word")


@dataclass(frozen=True)
class NumberedTokenizer:
    """A tokenizer with the numbers of its pieces."""

    tokenizer: Tokenizer
    numbers: Mapping[str, int]  # of all its pieces
    source: str  # its name in messages


def assemble(vocabulary: Mapping[str, int], normalizer: normalizers.Normalizer, *, source: str) -> NumberedTokenizer:
    """Make BERT's tokenizer of pieces and their numbers.

    normalizer: applied before pieces are found.
    source: named in errors.
    Raises ValueError without [CLS] and [SEP].
    """
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


def bert_normalizer(settings: Mapping[str, bool | None]) -> normalizers.BertNormalizer:
    """The normalizer that `tokenizer_config.json` describes; missing settings default as in Hugging Face (uncased)."""
    given = {ours: settings[key] for key, ours in NORMALIZER_KEYS.items() if key in settings}
    return normalizers.BertNormalizer(**given)


def write_tokenizer(tokenizer: Tokenizer, vocabulary: Sequence[str], directory: Path, *, model_max_length: int) -> None:
    """Write tokenizer.json, tokenizer_config.json, special_tokens_map.json and vocab.txt into an existing folder.

    The checksums of tokenizer.json and vocab.txt are written beside them.

    vocabulary: all pieces in the order of their numbers.
    model_max_length: maximum input length of a model, in pieces.
    """
    special = {f"{role}_token": piece for role, piece in SPECIAL_PIECES.items()}
    settings = {"tokenizer_class": "ElectraTokenizer", "model_max_length": model_max_length, **special}
    settings |= _settings_of(tokenizer.normalizer)
    if any(token.special and token.content not in special.values() for token in added_tokens(tokenizer).values()):
        settings["split_special_tokens"] = True
    texts = {
        "tokenizer.json": tokenizer.to_str(),
        "tokenizer_config.json": json.dumps(settings, indent=2) + "\n",
        "special_tokens_map.json": json.dumps(special, indent=2) + "\n",
        "vocab.txt": "".join(f"{piece}\n" for piece in vocabulary),
    }
    for name, text in texts.items():
        (directory / name).write_text(text, encoding="utf-8", newline="\n")
    write_checksums(directory / CHECKSUMS, ("tokenizer.json", "vocab.txt"))


@contextmanager
def replaced_tokenizer(directory: Path) -> Iterator[Path]:
    """A folder whose tokenizer replaces that of `directory` when the block ends; other files stay."""
    with replaced_folder(directory, last="tokenizer.json", gone=STALE) as folder:
        yield folder


def _settings_of(normalizer: normalizers.Normalizer | None) -> dict[str, Any]:
    """The normaliser in the words of `tokenizer_config.json`, whose readers expect all keys."""
    if isinstance(normalizer, normalizers.BertNormalizer):
        return {key: getattr(normalizer, ours) for key, ours in NORMALIZER_KEYS.items()}
    return {"do_lower_case": is_uncased(normalizer), "strip_accents": None, "tokenize_chinese_chars": True}


def is_uncased(normalizer: normalizers.Normalizer | None) -> bool:
    """True if text is lower-cased."""
    return normalizer is not None and normalizer.normalize_str("A") != "A"


def loses_accents(normalizer: normalizers.Normalizer | None) -> bool:
    """True if combining marks are stripped."""
    return normalizer is not None and normalizer.normalize_str("ä") == "a"


def find_tokenizer(directory: Path) -> Path:
    """The folder of a tokenizer: `directory`, or its subfolder `discriminator`, as in a run's model-last.

    Raises FileNotFoundError, with the expected files, if neither holds one.
    """
    for folder in (directory, directory / "discriminator"):
        settle(folder)
        if any((folder / name).is_file() for name in ("tokenizer.json", "vocab.txt")):
            return folder
    if not directory.is_dir():
        raise FileNotFoundError(
            f"there is no folder {directory}, expected one with tokenizer.json or vocab.txt: check the path, or make "
            "a tokenizer with `spacy electra train-tokenizer`."
        )
    inside = [directory / "model-last" / "discriminator", directory / "tokenizer"]
    found = next((folder for folder in inside if folder.is_dir()), None)
    raise FileNotFoundError(
        f"{directory} holds no tokenizer, expected a directory with tokenizer.json or vocab.txt, or a run's "
        f"model-last: give {found or 'the one that `spacy electra train-tokenizer` wrote'}."
    )


def read_tokenizer(directory: Path) -> NumberedTokenizer:
    """Read a directory's tokenizer as Hugging Face's `AutoTokenizer` does; its source is the file it was read from.

    Reads `tokenizer.json`, or else `vocab.txt`, and the files of `read_tokenizer_settings`. Tokens are added, and
    lower-casing, accents and Chinese follow `tokenizer_config.json` if that differs from `tokenizer.json`.

    Raises FileNotFoundError without either file, ValueError if one cannot be read or was changed after it was written;
    both name it.
    """
    directory = find_tokenizer(directory)
    whole, pieces = directory / "tokenizer.json", directory / "vocab.txt"
    if whole.is_file():
        check_checksum(whole, directory / CHECKSUMS)
        found = parse_tokenizer(read_utf8(whole), source=str(whole))
        settings = read_tokenizer_settings(directory, stored=added_tokens(found.tokenizer))
        before = found.tokenizer.normalizer
        if settings.overrules:
            _follow(settings.normalizer, found)
            _check_matching([*settings.added, *added_tokens(found.tokenizer).values()], before, found)
    else:
        check_checksum(pieces, directory / CHECKSUMS)
        settings = read_tokenizer_settings(directory, stored={})
        found = assemble(_read_vocabulary(pieces), bert_normalizer(settings.normalizer), source=str(pieces))
    return _with_added(found, settings)


def _with_added(found: NumberedTokenizer, settings: TokenizerSettings) -> NumberedTokenizer:
    """The tokenizer with the tokens to add, of which all are matched in a text but the five special pieces.

    `WordPiece` lets special tokens be text, so that those that are matched must be none.
    """
    tokenizer, basic = found.tokenizer, SPECIAL_PIECES.values()
    given = [*added_tokens(tokenizer).values(), *settings.added]
    special = {token.content for token in given if token.special and settings.splits_special}  # once special, always
    tokenizer.add_tokens(list(settings.added))
    if all(token.special and token.content in basic for token in added_tokens(tokenizer).values()):
        return found
    content = json.loads(tokenizer.to_str())
    for token in content["added_tokens"]:
        token["special"] = token["content"] in basic or token["content"] in special
    return parse_tokenizer(json.dumps(content), source=found.source)


def _check_matching(tokens: list[AddedToken], before: normalizers.Normalizer | None, found: NumberedTokenizer) -> None:
    """Raise ValueError where tokens are matched by the normaliser of tokenizer.json, and texts have another one.

    Hugging Face then looks for what the first makes of the tokens in what the second makes of the texts.
    """
    now = found.tokenizer.normalizer
    if before is None or now is None:
        return
    names = {token.content for token in tokens if token.normalized} - set(SPECIAL_PIECES.values())
    if hidden := sorted(name for name in names if before.normalize_str(name) != now.normalize_str(name)):
        raise ValueError(
            f"{found.source} and its tokenizer_config.json differ in case, accents or Chinese, and so the added token "
            f"{hidden[0]!r} could not be found as it was meant. Correct one of them: what the model was trained with "
            f"counts."
        )


def added_tokens(tokenizer: Tokenizer) -> dict[int, AddedToken]:
    """Tokens by number that are not pieces of the model, or are marked as added among them."""
    found: dict[int, AddedToken] = tokenizer.get_added_tokens_decoder()
    return found


def parse_tokenizer(text: str, *, source: str) -> NumberedTokenizer:
    """Parse the content of a `tokenizer.json`. Raises ValueError, naming `source`, if it is not one."""
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


def _follow(wanted: Mapping[str, bool | None], found: NumberedTokenizer) -> None:
    """Let the settings overrule the normaliser, as Hugging Face does, also with its default where one is left out."""
    tokenizer = found.tokenizer
    if not isinstance(tokenizer.normalizer, normalizers.BertNormalizer):
        return
    has = _settings_of(tokenizer.normalizer)
    differing = {key: value for key, value in wanted.items() if value != has[key]}
    if differing:
        logger.warning(
            "%s disagrees with its tokenizer_config.json, or with what Hugging Face takes where that is silent, which "
            "counts: %s",
            found.source,
            differing,
        )
        clean = {"clean_text": tokenizer.normalizer.clean_text}
        given = {ours: wanted[key] for key, ours in NORMALIZER_KEYS.items()}
        tokenizer.normalizer = normalizers.BertNormalizer(**clean, **given)


def _read_vocabulary(path: Path) -> dict[str, int]:
    """Pieces of vocab.txt, numbered by line from 0. Raises ValueError where a piece stands twice."""
    vocabulary: dict[str, int] = {}
    for number, piece in enumerate(read_utf8(path).rstrip("\n").split("\n")):
        if piece in vocabulary:
            raise ValueError(
                f"{path} has the piece {piece!r} in line {vocabulary[piece] + 1} and again in line {number + 1}, "
                "expected one piece a line: its number would be ambiguous; take the original file."
            )
        vocabulary[piece] = number
    return vocabulary
