"""Generated corpora through readers and store: nothing crashes, all is accounted for, and the store is the text."""

import json
import re
import tempfile
import unicodedata
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spacy_electra.data.corpus.documents import Document, read_documents
from spacy_electra.data.corpus.skipped import Skipped, read_skipped
from spacy_electra.data.store.reader import Store
from spacy_electra.data.store.writer import build_store
from spacy_electra.data.tokenizer.wordpiece import WordPiece

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz", *"0123456789.,!", "é", "ß", "你"]
SOMETIMES = {"deadline": None, "max_examples": 60, "suppress_health_check": list(HealthCheck)}
AT_LENGTH = SOMETIMES | {"max_examples": 1000}

texts = st.one_of(
    st.text(max_size=40),
    st.text(alphabet="abc é你\n\r\t \u200b\u202e\x00\x1b", max_size=60),
    st.sampled_from(
        ["", " ", "<p>a &amp; b</p>", "a\r\nb", "x" * 5000, "[MASK] [CLS]", "\ufeffa", "👩‍👩‍👧", "שלום", "\ud83d"]
    ),
)
lines = st.one_of(
    texts.map(lambda text: json.dumps({"text": text}).encode()),
    texts.map(lambda text: json.dumps({"text": text}, ensure_ascii=False).encode("utf8", "surrogatepass")),
    st.one_of(
        st.none(), st.integers(), st.lists(st.integers(), max_size=2), st.dictionaries(st.text(max_size=3), texts)
    ).map(lambda value: json.dumps({"text": value}).encode()),
    st.sampled_from(
        [b"", b" ", b"{", b"[]", b'{"Text": "a"}', b'"text"', b'{"text": "\xff"}', b"\x00", b"\xef\xbb\xbf{}"]
    ),
    st.binary(max_size=30).map(lambda raw: raw.replace(b"\n", b" ")),
)
corpora = st.lists(st.lists(lines, max_size=8).map(b"\n".join), min_size=1, max_size=3)
# What a reader refuses as a whole, with one message
REFUSED = re.compile(r"looks like UTF-16|is a .* file, expected|no line of .* is UTF-8|no usable document|has no text")


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> WordPiece:
    folder = tmp_path_factory.mktemp("vocabulary")
    continued = [f"##{piece}" for piece in PIECES[5:]]
    (folder / "vocab.txt").write_text("\n".join([*PIECES, *continued]) + "\n", encoding="utf8")
    return WordPiece.load(folder)


def seen(content: bytes) -> int:
    """Lines that are more than white space, as `bytes.strip` has it."""
    return sum(bool(line.strip()) for line in content.split(b"\n"))


def check(tokenizer: WordPiece, files: list[bytes]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder, skipped = Path(name), Skipped()
        paths = [str(folder / f"{number}.jsonl") for number in range(len(files))]
        for path, content in zip(paths, files, strict=True):
            Path(path).write_bytes(content)
        try:
            found = list(read_documents(paths, skipped=skipped, max_faults=10_000))
            assert len(found) + skipped.total == sum(map(seen, files))
            build_store(iter(found), tokenizer, folder / "store", shard_pieces=20, skipped=skipped)
        except ValueError as error:
            if not REFUSED.search(str(error)):
                raise
        else:
            check_store(Store.open(folder / "store", tokenizer=tokenizer), tokenizer, found, skipped)


def check_store(store: Store, tokenizer: WordPiece, found: list[Document], skipped: Skipped) -> None:
    assert store.documents == len(found)
    if skipped.total:
        assert sum(1 for _ in read_skipped(store.directory / "skipped.jsonl")) == skipped.total
    for document, ids in zip(found, store.each_document(), strict=True):
        assert ids.tolist() == tokenizer.encode([document.text])[0].ids.tolist()
        if tokenizer.special.unk not in ids:
            assert letters(tokenizer.decode(ids)) == letters(document.text)
    store.verify()


def letters(text: str) -> str:
    """Letters and digits in lower case and without accents, which is what the tokenizer keeps of them."""
    parts = unicodedata.normalize("NFD", text)
    return "".join(c for c in parts.lower() if c.isascii() and c.isalnum())


@settings(**SOMETIMES)
@given(files=corpora)
def test_whatever_a_corpus_holds_is_read_or_counted(tokenizer: WordPiece, files: list[bytes]) -> None:
    check(tokenizer, files)


@pytest.mark.slow
@settings(**AT_LENGTH)
@given(files=corpora)
def test_whatever_a_thousand_corpora_hold_is_read_or_counted(tokenizer: WordPiece, files: list[bytes]) -> None:
    check(tokenizer, files)
