"""A store built by several jobs: who reads what, and that the joined store is that of one job, byte for byte."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from spacy_electra.data.corpus.documents import read_documents
from spacy_electra.data.corpus.skipped import Skipped
from spacy_electra.data.store.manifest import PARTS
from spacy_electra.data.store.merge import Shares, finish_removal, join_parts, missing_parts, share_out
from spacy_electra.data.store.reader import Store
from spacy_electra.data.store.writer import build_store
from spacy_electra.data.tokenizer.wordpiece import WordPiece

TEXTS = ["a b c", "d e\nf", "g h i j", "k", "l m n o p q", "r s"]
SHARD = 4  # pieces, so that shards begin and end inside of files


@pytest.fixture
def tokenizer(tmp_path: Path) -> WordPiece:
    (tmp_path / "vocab.txt").write_text(
        "\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrs"])
    )
    return WordPiece.load(tmp_path)


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """One file of JSON lines for each of TEXTS, a document a letter line, and an empty document in the second."""
    paths = [tmp_path / f"{number}.jsonl" for number in range(len(TEXTS))]
    for path, text in zip(paths, TEXTS, strict=True):
        path.write_text("".join(f'{{"text": "{line}"}}\n' for line in text.splitlines()))
    paths[1].write_text(paths[1].read_text() + '{"text": ""}\n')
    return [str(path) for path in paths]


def build(files: Sequence[str], tokenizer: WordPiece, folder: Path, *, is_part: bool = False) -> None:
    skipped = Skipped()
    documents = read_documents(files, skipped=skipped, may_be_empty=is_part)
    build_store(documents, tokenizer, folder, shard_pieces=SHARD, skipped=skipped, keep_digests=is_part)


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def build_parts(files: Sequence[str], tokenizer: WordPiece, folder: Path, *, jobs: int) -> Shares:
    shares = share_out(files, jobs=jobs)
    for index in reversed(range(jobs)):
        build(shares.files[index], tokenizer, shares.part(folder, index), is_part=True)
    return shares


@pytest.mark.parametrize("jobs", [1, 2, 3, 6])
def test_joined_parts_have_the_bytes_of_one_job(
    tmp_path: Path, tokenizer: WordPiece, files: list[str], jobs: int
) -> None:
    build(files, tokenizer, tmp_path / "alone")
    shares = build_parts(files, tokenizer, tmp_path / "joined", jobs=jobs)
    pieces: list[int] = []
    join_parts(tokenizer, tmp_path / "joined", shares, shard_pieces=SHARD, on_pieces=pieces.append)
    assert content(tmp_path / "joined") == content(tmp_path / "alone")
    assert Store.open(tmp_path / "joined").manifest.skipped == {"empty": 1}
    assert sum(pieces) == 19


def test_a_join_that_was_interrupted_goes_on_to_the_same_bytes(
    tmp_path: Path, tokenizer: WordPiece, files: list[str]
) -> None:
    build(files, tokenizer, tmp_path / "alone")
    folder = tmp_path / "joined"
    shares = build_parts(files, tokenizer, folder, jobs=2)
    done = []

    def stop(count: int) -> None:
        done.append(count)
        if len(done) == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        join_parts(tokenizer, folder, shares, shard_pieces=SHARD, on_pieces=stop)
    assert (folder / "building.json").exists()
    assert missing_parts(folder, shares) == []
    with pytest.raises(FileNotFoundError, match="Its build was interrupted"):
        Store.open(folder)
    join_parts(tokenizer, folder, shares, shard_pieces=SHARD)
    assert content(folder) == content(tmp_path / "alone")


def test_what_an_interrupted_removal_leaves_is_no_part(
    tmp_path: Path, tokenizer: WordPiece, files: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "joined"
    shares = build_parts(files, tokenizer, folder, jobs=2)
    remove = shutil.rmtree

    def stop(part: Path, **settings: bool) -> None:
        if part.parent.name != PARTS:
            return remove(part, **settings)
        next(part.glob("shard-*")).unlink()
        raise KeyboardInterrupt

    monkeypatch.setattr("shutil.rmtree", stop)
    with pytest.raises(KeyboardInterrupt):
        join_parts(tokenizer, folder, shares, shard_pieces=SHARD)
    assert Store.open(folder).manifest.pieces == 19
    assert missing_parts(folder, shares) == [0]
    monkeypatch.undo()
    finish_removal(folder, shares)
    assert not (folder / PARTS).exists()


def test_a_part_may_be_empty(tmp_path: Path, tokenizer: WordPiece, files: list[str]) -> None:
    Path(files[2]).write_text("")
    Path(files[3]).write_text("\n" * 40)
    build(files, tokenizer, tmp_path / "alone")
    shares = build_parts(files, tokenizer, tmp_path / "joined", jobs=6)
    assert Store.open(shares.part(tmp_path / "joined", 2)).documents == 0
    join_parts(tokenizer, tmp_path / "joined", shares, shard_pieces=SHARD)
    assert content(tmp_path / "joined") == content(tmp_path / "alone")


def test_parts_without_any_text_are_not_joined(tmp_path: Path, tokenizer: WordPiece, files: list[str]) -> None:
    for file in files:
        Path(file).write_text("\n")
    shares = build_parts(files, tokenizer, tmp_path / "joined", jobs=2)
    with pytest.raises(ValueError, match="has no text"):
        join_parts(tokenizer, tmp_path / "joined", shares)
    assert missing_parts(tmp_path / "joined", shares) == []


def test_parts_that_are_missing_are_named(tmp_path: Path, tokenizer: WordPiece, files: list[str]) -> None:
    shares = share_out(files, jobs=3)
    build(shares.files[1], tokenizer, shares.part(tmp_path / "store", 1), is_part=True)
    with pytest.raises(ValueError, match=r"2 of 3 parts are not finished\. Run tokenize with --shard-index 0, 2 first"):
        join_parts(tokenizer, tmp_path / "store", shares)
    with pytest.raises(FileNotFoundError, match="Its parts were not joined"):
        Store.open(tmp_path / "store")


def test_parts_of_other_files_or_another_number_of_jobs_are_not_joined(
    tmp_path: Path, tokenizer: WordPiece, files: list[str]
) -> None:
    build_parts(files, tokenizer, tmp_path / "store", jobs=2)
    for others, jobs in ((files, 3), (files[:-1], 2)):
        with pytest.raises(ValueError, match="The 2 parts there are of other files or of another --num-shards"):
            join_parts(tokenizer, tmp_path / "store", share_out(others, jobs=jobs))


def test_jobs_get_neighbouring_files_of_about_as_many_bytes(tmp_path: Path) -> None:
    sizes = [5, 5, 10, 40, 1, 1, 18]
    files = [tmp_path / f"{number}.txt" for number in range(len(sizes))]
    for path, size in zip(files, sizes, strict=True):
        path.write_bytes(b"a" * size)
    names = [str(path) for path in files]
    # 80 bytes: 27 each; the big file cannot be cut
    assert [len(share) for share in share_out(names, jobs=3).files] == [3, 1, 3]
    assert [name for share in share_out(names, jobs=3).files for name in share] == names
    assert [len(share) for share in share_out(names, jobs=7).files] == [1] * 7


def test_more_jobs_than_files_are_refused(files: list[str]) -> None:
    with pytest.raises(ValueError, match=r"--num-shards 7 shares out whole files, but the corpus has only 6"):
        share_out(files, jobs=7)


def test_an_error_before_the_first_document_leaves_nothing(tmp_path: Path, tokenizer: WordPiece) -> None:
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(ValueError, match="no usable document"):
        build([str(tmp_path / "empty.jsonl")], tokenizer, tmp_path / "store")
    assert not (tmp_path / "store").exists()
