"""A store whose build is killed at any step is finished, or the old one is found, by the next command."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from spacy_electra.data.corpus.documents import Document
from spacy_electra.data.corpus.skipped import Skipped
from spacy_electra.data.store.manifest import MANIFEST
from spacy_electra.data.store.merge import Shares, finish_removal, join_parts, missing_parts, share_out
from spacy_electra.data.store.reader import Store
from spacy_electra.data.store.writer import build_store
from spacy_electra.data.tokenizer.wordpiece import WordPiece

KilledAtEveryStep = Callable[..., int]
EVERY = pytest.mark.parametrize("every", [4, pytest.param(1, marks=pytest.mark.slow)])

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
TEXTS = ("a b c", "d e", "f g h", "i")
OTHERS = ("j k", "l m n")


def make_tokenizer(folder: Path, letters: str) -> WordPiece:
    folder.mkdir()
    (folder / "vocab.txt").write_text("\n".join([*SPECIAL, *letters]))
    return WordPiece.load(folder)


@pytest.fixture
def tokenizer(tmp_path: Path) -> WordPiece:
    return make_tokenizer(tmp_path / "letters", "abcdefghijklmn")


@pytest.fixture
def other(tmp_path: Path) -> WordPiece:
    return make_tokenizer(tmp_path / "others", "nmlkjihgfedcba")


def documents(*texts: str) -> Iterator[Document]:
    return (Document(text, "test.jsonl", number) for number, text in enumerate(texts, 1))


def build(
    folder: Path, texts: tuple[str, ...], tokenizer: WordPiece, *, overwrite: bool = False, is_part: bool = False
) -> None:
    skipped = Skipped()
    skipped.add("empty", "test.jsonl", 9)
    build_store(
        documents(*texts),
        tokenizer,
        folder,
        shard_pieces=4,
        skipped=skipped,
        overwrite=overwrite,
        keep_digests=is_part,
    )


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@EVERY
@pytest.mark.parametrize("is_part", [False, True])
def test_a_killed_build_is_finished_by_the_next(
    tmp_path: Path, tokenizer: WordPiece, killed_at_every_step: KilledAtEveryStep, is_part: bool, every: int
) -> None:
    build(tmp_path / "whole", TEXTS, tokenizer, is_part=is_part)

    def check(folder: Path) -> None:
        build(folder / "store", TEXTS, tokenizer, is_part=is_part)
        assert content(folder / "store") == content(tmp_path / "whole")
        assert [path.name for path in folder.iterdir()] == ["store"]

    killed_at_every_step(
        lambda folder: build(folder / "store", TEXTS, tokenizer, is_part=is_part), check=check, every=every
    )


@EVERY
def test_a_killed_overwriting_build_leaves_the_old_store_or_is_finished(
    tmp_path: Path, tokenizer: WordPiece, other: WordPiece, killed_at_every_step: KilledAtEveryStep, every: int
) -> None:
    build(tmp_path / "old", OTHERS, other)
    build(tmp_path / "new", TEXTS, tokenizer)
    old, new = content(tmp_path / "old"), content(tmp_path / "new")
    found = []

    def check(folder: Path) -> None:
        try:
            found.append(Store.open(folder).load_tokenizer().fingerprint)
        except FileNotFoundError:  # a shard of the new one is finished
            found.append("under way")
            assert content(folder / "replaced") == old
        if found[-1] == other.fingerprint:
            assert content(folder) == old
            with pytest.raises(ValueError, match="was made with another vocabulary"):
                build(folder, TEXTS, tokenizer)
        else:
            build(folder, TEXTS, tokenizer)
            assert content(folder) == new
        build(folder, TEXTS, tokenizer, overwrite=True)
        assert content(folder) == new

    killed_at_every_step(
        lambda folder: build(folder, TEXTS, tokenizer, overwrite=True),
        prepare=lambda folder: shutil.copytree(tmp_path / "old", folder, dirs_exist_ok=True),
        check=check,
        every=every,
    )
    assert [name for number, name in enumerate(found) if found.index(name) == number] == [
        other.fingerprint,
        "under way",
        tokenizer.fingerprint,
    ]


@EVERY
def test_a_killed_join_is_finished_by_the_next(
    tmp_path: Path, tokenizer: WordPiece, killed_at_every_step: KilledAtEveryStep, every: int
) -> None:
    files = [str(tmp_path / f"{number}.jsonl") for number in range(len(TEXTS))]
    for name in files:
        Path(name).write_text("{}\n")
    shares = share_out(files, jobs=2)
    joined = tmp_path / "joined"
    build_parts(tmp_path / "parts", shares, tokenizer)
    shutil.copytree(tmp_path / "parts", joined)
    join(joined, shares, tokenizer)

    def check(folder: Path) -> None:
        join(folder, shares, tokenizer)
        assert content(folder) == content(joined)
        assert {path.name for path in folder.iterdir()} == {path.name for path in joined.iterdir()}

    killed_at_every_step(
        lambda folder: join(folder, shares, tokenizer),
        prepare=lambda folder: shutil.copytree(tmp_path / "parts", folder, dirs_exist_ok=True),
        check=check,
        every=every,
    )


def build_parts(folder: Path, shares: Shares, tokenizer: WordPiece) -> None:
    for index, texts in enumerate((TEXTS[:2], TEXTS[2:])):
        build(shares.part(folder, index), texts, tokenizer, is_part=True)


def join(folder: Path, shares: Shares, tokenizer: WordPiece) -> None:
    """What `tokenize --merge` does."""
    finish_removal(folder, shares)
    if not ((folder / MANIFEST).exists() and len(missing_parts(folder, shares)) == 2):
        join_parts(tokenizer, folder, shares, shard_pieces=4)
