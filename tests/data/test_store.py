"""The tokenised corpus on disk: what is written, that it is the same however it came about, and what is refused."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from spacy_electra.data.corpus.documents import Document
from spacy_electra.data.corpus.skipped import Skipped
from spacy_electra.data.store import tokenize as tokenizing
from spacy_electra.data.store.reader import Store
from spacy_electra.data.store.tokenize import PART_CHARACTERS, cut, encode_texts
from spacy_electra.data.store.writer import build_store
from spacy_electra.data.tokenizer.wordpiece import WordPiece

LETTERS = "abcdefghijklmnopqrstuvwxyz"  # piece 5 is "a", 6 is "b", ...


def make_tokenizer(directory: Path, letters: str = LETTERS) -> WordPiece:
    directory.mkdir(parents=True, exist_ok=True)
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters]
    (directory / "vocab.txt").write_text("".join(f"{piece}\n" for piece in pieces))
    return WordPiece.load(directory)


def documents(*texts: str) -> Iterator[Document]:
    return (Document(text=text, source="test.jsonl", line=line) for line, text in enumerate(texts, start=1))


def files(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


TEXTS = ("a b c", "d e", "", "f", "g h i j", "k l")  # 12 pieces


@pytest.fixture
def tokenizer(tmp_path: Path) -> WordPiece:
    return make_tokenizer(tmp_path / "vocabulary")


def left_out(*reasons: str) -> Skipped:
    skipped = Skipped()
    for line, reason in enumerate(reasons, start=1):
        skipped.add(reason, "test.jsonl", line)
    return skipped


def break_off(after: int) -> Iterator[Document]:
    """The documents of TEXTS until the machine goes down."""
    yield from documents(*TEXTS[:after])
    raise KeyboardInterrupt


def test_pieces_and_document_starts_are_those_of_the_text(tokenizer: WordPiece, tmp_path: Path) -> None:
    build_store(documents(*TEXTS), tokenizer, tmp_path / "store")
    store = Store.open(tmp_path / "store", tokenizer=tokenizer)
    assert store.read(0, 12).tolist() == list(range(5, 17))
    assert store.starts.tolist() == [0, 3, 5, 5, 6, 10, 12]
    assert store.document_lengths().tolist() == [3, 2, 0, 1, 4, 2]
    assert (store.documents, store.pieces) == (6, 12)
    store.verify()


def test_a_shard_ends_with_the_document_that_fills_it(tokenizer: WordPiece, tmp_path: Path) -> None:
    manifest = build_store(documents(*TEXTS), tokenizer, tmp_path, shard_pieces=4)
    assert [(shard.name, shard.documents, shard.pieces) for shard in manifest.shards] == [
        ("shard-00000.bin", 2, 5),
        ("shard-00001.bin", 3, 5),
        ("shard-00002.bin", 1, 2),
    ]
    assert (tmp_path / "shard-00001.bin").read_bytes() == np.arange(10, 15, dtype="<u2").tobytes()


def test_reading_crosses_shards(tokenizer: WordPiece, tmp_path: Path) -> None:
    build_store(documents(*TEXTS), tokenizer, tmp_path, shard_pieces=4)
    store = Store.open(tmp_path)
    assert store.read(3, 11).tolist() == list(range(8, 16))
    assert store.gather(np.array([11, 0, 5, 4])).tolist() == [16, 5, 10, 9]


@pytest.mark.parametrize(("start", "stop"), [(-1, 3), (0, 13), (5, 4)])
def test_reading_outside_the_store_is_refused(tokenizer: WordPiece, tmp_path: Path, start: int, stop: int) -> None:
    build_store(documents(*TEXTS), tokenizer, tmp_path)
    with pytest.raises(IndexError, match="which holds 12"):
        Store.open(tmp_path).read(start, stop)


def test_a_large_vocabulary_takes_four_bytes_a_piece(tmp_path: Path) -> None:
    letters = [f"w{number}" for number in range(1 << 16)]
    (tmp_path / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters]) + "\n")
    manifest = build_store(documents("w65535 w0"), WordPiece.load(tmp_path), tmp_path / "store")
    assert manifest.dtype == "<u4"
    assert Store.open(tmp_path / "store").read(0, 2).tolist() == [65540, 5]


def test_the_same_input_gives_the_same_bytes(tokenizer: WordPiece, tmp_path: Path) -> None:
    for name in ("one", "two"):
        skipped = left_out("too short", "too short")
        build_store(documents(*TEXTS), tokenizer, tmp_path / name, shard_pieces=4, skipped=skipped)
    assert files(tmp_path / "one") == files(tmp_path / "two")
    assert sorted(path.name for path in (tmp_path / "one").glob("*")) == [
        "manifest.json", "shard-00000.bin", "shard-00001.bin", "shard-00002.bin", "skipped.jsonl", "starts.npy",
        "tokenizer",
    ]  # fmt: skip


def test_several_processes_write_the_same_bytes(tokenizer: WordPiece, tmp_path: Path) -> None:
    for processes in (1, 2):
        build_store(documents(*TEXTS), tokenizer, tmp_path / str(processes), processes=processes)
    assert files(tmp_path / "1") == files(tmp_path / "2")


@pytest.fixture
def one_document_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small documents reach the disk one by one, as long ones do."""
    monkeypatch.setattr(tokenizing, "BATCH_CHARACTERS", 1)


@pytest.mark.usefixtures("one_document_a_batch")
@pytest.mark.parametrize("after", [1, 3, 5, 6])
def test_an_interrupted_build_ends_in_the_same_bytes(tokenizer: WordPiece, tmp_path: Path, after: int) -> None:
    build_store(documents(*TEXTS), tokenizer, tmp_path / "whole", shard_pieces=2)
    with pytest.raises(KeyboardInterrupt):
        build_store(break_off(after), tokenizer, tmp_path / "broken", shard_pieces=2)
    build_store(documents(*TEXTS), tokenizer, tmp_path / "broken", shard_pieces=2)
    assert files(tmp_path / "whole") == files(tmp_path / "broken")


@pytest.mark.usefixtures("one_document_a_batch")
def test_an_interruption_before_the_first_shard_leaves_only_what_was_there(
    tokenizer: WordPiece, tmp_path: Path
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep")
    for name in ("new", "mine"):
        with pytest.raises(KeyboardInterrupt):
            build_store(break_off(4), tokenizer, tmp_path / name, shard_pieces=100)
    assert not (tmp_path / "new").exists()
    assert files(tmp_path / "mine") == {"notes.txt": b"keep"}


class Witness(WordPiece):
    """Remembers what it was given to encode."""

    def encode_ids(self, texts: Sequence[str]) -> list[NDArray[np.int32]]:
        self.__dict__.setdefault("seen", []).extend(texts)
        return super().encode_ids(texts)


@pytest.mark.usefixtures("one_document_a_batch")
def test_a_resumed_build_tokenises_only_what_is_not_there(tokenizer: WordPiece, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        build_store(break_off(5), tokenizer, tmp_path / "store", shard_pieces=2)
    assert (tmp_path / "store" / "building.json").exists()
    witness = Witness.from_json(tokenizer.to_json())
    done: list[tuple[int, int]] = []
    build_store(documents(*TEXTS), witness, tmp_path / "store", shard_pieces=2, progress=lambda *new: done.append(new))
    assert vars(witness)["seen"] == ["", "f", "g h i j", "k l"]  # the third shard was under way
    assert done == [(1, 3), (1, 2), (1, 0), (1, 1), (1, 4), (1, 2)]


@pytest.mark.usefixtures("one_document_a_batch")
def test_a_build_repeats_the_shards_after_a_damaged_one(tokenizer: WordPiece, tmp_path: Path) -> None:
    build_store(documents(*TEXTS), tokenizer, tmp_path / "whole", shard_pieces=2)
    with pytest.raises(KeyboardInterrupt):
        build_store(break_off(6), tokenizer, tmp_path / "broken", shard_pieces=2)
    (tmp_path / "broken" / "shard-00001.bin").write_bytes(b"")
    build_store(documents(*TEXTS), tokenizer, tmp_path / "broken", shard_pieces=2)
    assert files(tmp_path / "whole") == files(tmp_path / "broken")


class PowerCut(Skipped):
    """What the reader left out, which is written when all shards are and the manifest is not."""

    def write(self, path: Path) -> None:
        raise KeyboardInterrupt


def test_a_corpus_that_grew_after_the_interruption_is_read_to_its_end(tokenizer: WordPiece, tmp_path: Path) -> None:
    build_store(documents(*TEXTS, "m n"), tokenizer, tmp_path / "whole", shard_pieces=4)
    skipped = PowerCut()
    skipped.add("empty", "test.jsonl", 1)
    with pytest.raises(KeyboardInterrupt):
        build_store(documents(*TEXTS), tokenizer, tmp_path / "grown", shard_pieces=4, skipped=skipped)
    build_store(documents(*TEXTS, "m n"), tokenizer, tmp_path / "grown", shard_pieces=4)
    assert files(tmp_path / "whole") == files(tmp_path / "grown")


@pytest.mark.usefixtures("one_document_a_batch")
def test_a_build_that_goes_on_with_other_text_is_refused(tokenizer: WordPiece, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        build_store(break_off(5), tokenizer, tmp_path, shard_pieces=2)
    with pytest.raises(ValueError, match=r"another corpus: shard-00001\.bin"):
        build_store(documents("a b c", "changed", *TEXTS[2:]), tokenizer, tmp_path, shard_pieces=2)


@pytest.mark.usefixtures("one_document_a_batch")
def test_an_unfinished_build_is_not_opened(tokenizer: WordPiece, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        build_store(break_off(5), tokenizer, tmp_path, shard_pieces=2)
    with pytest.raises(FileNotFoundError, match="Its build was interrupted"):
        Store.open(tmp_path)
    with pytest.raises(ValueError, match="shard_pieces=2, but got 3"):
        build_store(documents(*TEXTS), tokenizer, tmp_path, shard_pieces=3)


@pytest.mark.usefixtures("one_document_a_batch")
def test_an_overwriting_build_that_fails_before_its_first_document_leaves_what_was_there(
    tokenizer: WordPiece, tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        build_store(break_off(5), tokenizer, tmp_path, shard_pieces=2)
    before = files(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        build_store(break_off(0), tokenizer, tmp_path, shard_pieces=2, overwrite=True)
    assert files(tmp_path) == before


@pytest.mark.usefixtures("one_document_a_batch")
def test_an_overwriting_build_that_fails_before_its_first_shard_gives_the_old_store_back(
    tokenizer: WordPiece, tmp_path: Path
) -> None:
    build_store(documents("a b"), tokenizer, tmp_path / "store")
    before = files(tmp_path / "store")
    other = make_tokenizer(tmp_path / "other", LETTERS[::-1])
    with pytest.raises(KeyboardInterrupt):
        build_store(break_off(2), other, tmp_path / "store", overwrite=True)
    assert files(tmp_path / "store") == before


@pytest.mark.usefixtures("one_document_a_batch")
def test_an_overwriting_build_keeps_the_old_store_until_it_is_finished(tokenizer: WordPiece, tmp_path: Path) -> None:
    build_store(documents("a b"), tokenizer, tmp_path / "store")
    before = files(tmp_path / "store")
    for _ in range(2):  # the second time, what is there is no store
        with pytest.raises(KeyboardInterrupt):
            build_store(break_off(5), tokenizer, tmp_path / "store", shard_pieces=2, overwrite=True)
        assert files(tmp_path / "store" / "replaced") == before
    with pytest.raises(FileNotFoundError, match=r"The store that it will replace is in .*replaced"):
        Store.open(tmp_path / "store")
    build_store(documents(*TEXTS), tokenizer, tmp_path / "store", shard_pieces=2)
    build_store(documents(*TEXTS), tokenizer, tmp_path / "alone", shard_pieces=2)
    assert files(tmp_path / "store") == files(tmp_path / "alone")


def test_two_builds_in_one_folder_are_not_let_at_it_together(tokenizer: WordPiece, tmp_path: Path) -> None:
    def documents_of_a_slow_corpus() -> Iterator[Document]:
        yield from documents(*TEXTS[:3])
        with pytest.raises(ValueError, match=r"another process is writing into .*store: wait for it"):
            build_store(documents("x"), tokenizer, tmp_path / "store", shard_pieces=4, overwrite=True)
        yield from documents(*TEXTS[3:])

    build_store(documents_of_a_slow_corpus(), tokenizer, tmp_path / "store", shard_pieces=4)
    build_store(documents(*TEXTS), tokenizer, tmp_path / "alone", shard_pieces=4)
    assert files(tmp_path / "store") == files(tmp_path / "alone")


def test_a_finished_store_of_the_same_input_stays(tokenizer: WordPiece, tmp_path: Path) -> None:
    first = build_store(documents(*TEXTS), tokenizer, tmp_path / "store")
    before = (tmp_path / "store" / "shard-00000.bin").stat().st_mtime_ns
    assert build_store(documents(*TEXTS), tokenizer, tmp_path / "store") == first
    assert (tmp_path / "store" / "shard-00000.bin").stat().st_mtime_ns == before


@pytest.mark.parametrize("texts", [TEXTS[:-1], (*TEXTS, "m"), ("ab c", *TEXTS[1:]), ("a b cd", " e", *TEXTS[2:])])
def test_a_store_of_another_corpus_is_replaced_only_on_demand(
    tokenizer: WordPiece, tmp_path: Path, texts: tuple[str, ...]
) -> None:
    first = build_store(documents(*TEXTS), tokenizer, tmp_path, shard_pieces=4)
    with pytest.raises(ValueError, match=r"another corpus.*--overwrite"):
        build_store(documents(*texts), tokenizer, tmp_path, shard_pieces=4)
    second = build_store(documents(*texts), tokenizer, tmp_path, shard_pieces=100, overwrite=True)
    assert second.fingerprint != first.fingerprint
    assert [path.name for path in tmp_path.glob("shard-*")] == ["shard-00000.bin"]
    assert Store.open(tmp_path).documents == len(texts)


def test_another_vocabulary_is_refused_with_the_first_pieces_of_both(tokenizer: WordPiece, tmp_path: Path) -> None:
    other = make_tokenizer(tmp_path / "other", LETTERS[::-1])
    build_store(documents(*TEXTS), tokenizer, tmp_path / "store")
    both = r"piece 5 'a' against 'z', piece 6 'b' against 'y', piece 7 'c' against 'x', 26 pieces in all"
    with pytest.raises(ValueError, match=both):
        Store.open(tmp_path / "store", tokenizer=other)
    with pytest.raises(ValueError, match=both):
        build_store(documents(*TEXTS), other, tmp_path / "store")


def test_the_store_carries_its_vocabulary(tokenizer: WordPiece, tmp_path: Path) -> None:
    build_store(documents(*TEXTS), tokenizer, tmp_path / "store")
    store = Store.open(tmp_path / "store")
    assert store.load_tokenizer().fingerprint == tokenizer.fingerprint == store.manifest.tokenizer
    assert store.manifest.special == tokenizer.special
    make_tokenizer(tmp_path / "other", LETTERS[::-1]).save(tmp_path / "store" / "tokenizer")
    with pytest.raises(ValueError, match="store/tokenizer was changed"):
        store.load_tokenizer()


@pytest.mark.parametrize("name", ["shard-00000.bin", "shard-00002.bin", "starts.npy"])
def test_a_truncated_file_is_named(tokenizer: WordPiece, tmp_path: Path, name: str) -> None:
    build_store(documents(*TEXTS), tokenizer, tmp_path, shard_pieces=4)
    path = tmp_path / name
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match=f"{name} was truncated or changed"):
        Store.open(tmp_path)


@pytest.mark.parametrize("name", ["manifest.json", "shard-00001.bin", "starts.npy"])
def test_a_missing_file_is_named(tokenizer: WordPiece, tmp_path: Path, name: str) -> None:
    build_store(documents(*TEXTS), tokenizer, tmp_path, shard_pieces=4)
    (tmp_path / name).unlink()
    with pytest.raises(FileNotFoundError, match=name):
        Store.open(tmp_path)


@pytest.mark.parametrize("name", ["shard-00001.bin", "starts.npy"])
def test_verify_finds_a_changed_byte(tokenizer: WordPiece, tmp_path: Path, name: str) -> None:
    build_store(documents(*TEXTS), tokenizer, tmp_path, shard_pieces=4)
    content = bytearray((tmp_path / name).read_bytes())
    content[-10] ^= 1
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=f"{name} was changed"):
        Store.open(tmp_path).verify()


@pytest.mark.parametrize(
    ("change", "message"),
    [({"version": 99}, "version 99"), ({"pieces": 13}, "was changed"), ({"dtype": None}, "manifest")],
)
def test_a_manifest_that_is_not_ours_is_refused(
    tokenizer: WordPiece, tmp_path: Path, change: dict[str, object], message: str
) -> None:
    build_store(documents(*TEXTS), tokenizer, tmp_path)
    path = tmp_path / "manifest.json"
    facts = json.loads(path.read_text()) | change
    path.write_text(json.dumps({key: value for key, value in facts.items() if value is not None}))
    with pytest.raises(ValueError, match=message):
        Store.open(tmp_path)


@pytest.mark.parametrize("texts", [(), ("", " \n")])
def test_a_corpus_without_text_is_refused(tokenizer: WordPiece, tmp_path: Path, texts: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match=f"{len(texts)} documents without a piece, 3 left out"):
        build_store(documents(*texts), tokenizer, tmp_path, skipped=left_out(*["no text"] * 3))


def test_a_long_document_is_cut_only_at_white_space(tokenizer: WordPiece) -> None:
    text = "a" * PART_CHARACTERS + "b c\n" + "d " * PART_CHARACTERS + "e" * 100
    parts = list(cut(text))
    assert len(parts) == 4
    assert "".join(parts) == text
    assert all(part[0] in " \n" for part in parts[1:])
    (whole,) = tokenizer.encode([text])
    assert encode_texts(tokenizer, [text, "f"])[0].tolist() == whole.ids.tolist()
