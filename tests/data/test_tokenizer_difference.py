"""Two tokenizers that differ are told apart by what differs, never by two hashes."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from spacy_electra.data.corpus.documents import Document
from spacy_electra.data.store.merge import Shares, join_parts
from spacy_electra.data.store.reader import Store
from spacy_electra.data.store.writer import build_store
from spacy_electra.data.tokenizer.difference import cut_alike, difference
from spacy_electra.data.tokenizer.wordpiece import WordPiece

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghij"]
HASH = re.compile(r"[0-9a-f]{12}")


def made(folder: Path, pieces: list[str] = PIECES, **settings: Any) -> WordPiece:
    folder.mkdir(exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(pieces) + "\n", encoding="utf8")
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return WordPiece.load(folder)


@pytest.mark.parametrize(
    ("pieces", "settings", "told"),
    [
        ([*PIECES, "k"], {}, "15 pieces against 16 pieces"),
        ([*PIECES[:6], "x", *PIECES[7:]], {}, "piece 6 'b' against 'x'"),
        (
            [*PIECES[:5], *PIECES[:4:-1]],
            {},
            "piece 5 'a' against 'j', piece 6 'b' against 'i', piece 7 'c' against 'h', 10 pieces in all",
        ),
        ([*PIECES[:5], *"zyxwba"], {}, "15 pieces against 11 pieces, 7 pieces in both"),
        (PIECES, {"do_lower_case": False, "strip_accents": True}, "uncased against cased"),
        (PIECES, {"strip_accents": False}, "accents lost against accents kept"),
        (PIECES, {"tokenize_chinese_chars": False}, "another normalizer"),
        (PIECES, {"additional_special_tokens": ["[E1]"]}, "no added tokens against the added tokens '[E1]'"),
    ],
)
def test_what_differs_is_named(tmp_path: Path, pieces: list[str], settings: dict[str, Any], told: str) -> None:
    one, other = made(tmp_path / "one"), made(tmp_path / "other", pieces, **settings)
    assert told in difference(one, other)
    assert not cut_alike(one, other)


def test_flags_of_added_tokens_are_compared(tmp_path: Path) -> None:
    decoder = {"15": {"content": "[E1]", "lstrip": True}}
    one = made(tmp_path / "one", additional_special_tokens=["[E1]"])
    other = made(tmp_path / "other", added_tokens_decoder=decoder)
    assert "another matching of added tokens" in difference(one, other)


def test_what_cuts_no_text_is_no_difference(tmp_path: Path) -> None:
    one = made(tmp_path / "one")
    state = json.loads(one.to_json()) | {"post_processor": None}
    other = WordPiece.from_json(Tokenizer.from_str(json.dumps(state)).to_str())
    assert one.fingerprint != other.fingerprint
    assert cut_alike(one, other)
    assert "cut no text otherwise" in difference(one, other)
    assert cut_alike(one, made(tmp_path / "same", strip_accents=True))


def documents(*texts: str) -> Any:
    return iter([Document(text=text, source="c.txt", line=line) for line, text in enumerate(texts, start=1)])


def test_a_store_of_another_vocabulary_says_what_differs_wherever_it_is_opened(tmp_path: Path) -> None:
    one, other = made(tmp_path / "one"), made(tmp_path / "other", do_lower_case=False)
    build_store(documents("a b c"), one, tmp_path / "store")
    shares = Shares((("a.txt",),), "key")
    build_store(documents("a b c"), one, shares.part(tmp_path / "joined", 0), keep_digests=True)
    for again in (
        lambda: Store.open(tmp_path / "store", tokenizer=other),
        lambda: build_store(documents("a b c"), other, tmp_path / "store"),
        lambda: join_parts(other, tmp_path / "joined", shares),
    ):
        with pytest.raises(ValueError, match=r"uncased against cased.* tokenize --overwrite") as told:
            again()
        assert not HASH.search(str(told.value).replace(str(tmp_path), ""))


@pytest.mark.parametrize("content", [None, "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nz\n"], ids=["gone", "changed"])
def test_a_store_whose_own_tokenizer_is_gone_or_changed_says_so(tmp_path: Path, content: str | None) -> None:
    one, other = made(tmp_path / "one"), made(tmp_path / "other", do_lower_case=False)
    build_store(documents("a b c"), one, tmp_path / "store")
    for path in (tmp_path / "store" / "tokenizer").iterdir():
        path.unlink()
    if content:
        (tmp_path / "store" / "tokenizer" / "vocab.txt").write_text(content)
    with pytest.raises(ValueError, match=r"Its own in .*store/tokenizer is gone or was changed; make the"):
        Store.open(tmp_path / "store", tokenizer=other)
