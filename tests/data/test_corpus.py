"""Documents from files: what is read, what is left out and counted, what stops with one clear error."""

import bz2
import errno
import gzip
import importlib.util
import json
import lzma
import random
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from spacy_electra.data.corpus.documents import Document, read_documents
from spacy_electra.data.corpus.limits import MemoryLimits
from spacy_electra.data.corpus.skipped import Skipped
from spacy_electra.data.corpus.sources import find_files, total_bytes

COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": zstandard.compress,
    "": bytes,
}
CYRILLIC = "Привет, мир. Это корпус.".encode("koi8-r")


def jsonl(*texts: object) -> bytes:
    return b"".join(json.dumps({"text": text}).encode() + b"\n" for text in texts)


def write(path: Path, content: bytes) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return str(path)


def texts_of(*paths: str, max_faults: int = 1000) -> list[str]:
    return [document.text for document in read_documents(paths, skipped=Skipped(), max_faults=max_faults)]


@pytest.mark.parametrize("suffix", list(COMPRESS))
def test_jsonl_gives_one_document_a_line_whatever_the_compression(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"a.jsonl{suffix}", COMPRESS[suffix](jsonl("eins", "zwei\nzeilig", "dreißig 中 😀")))
    assert list(read_documents([path], skipped=Skipped())) == [
        Document("eins", path, 1),
        Document("zwei\nzeilig", path, 2),
        Document("dreißig 中 😀", path, 3),
    ]


@pytest.mark.parametrize("suffix", list(COMPRESS))
def test_txt_is_one_document_with_its_paragraphs(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"A.TXT{suffix}", COMPRESS[suffix]("One.\r\n\r\nTwo é.\n".encode()))
    assert texts_of(path) == ["One.\n\nTwo é.\n"]


def test_several_zstd_frames_are_read_as_one_file(tmp_path: Path) -> None:
    frames = zstandard.compress(jsonl("a")) + b"\x50\x2a\x4d\x18\x03\x00\x00\x00abc" + zstandard.compress(jsonl("b"))
    assert texts_of(write(tmp_path / "a.jsonl.zst", frames)) == ["a", "b"]


def test_json_is_read_as_lines(tmp_path: Path) -> None:
    assert texts_of(write(tmp_path / "a.json", jsonl("x"))) == ["x"]


@pytest.mark.parametrize(("name", "content"), [("a.txt", b"text"), ("a.jsonl", jsonl("text", "text"))])
def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path: Path, name: str, content: bytes) -> None:
    assert set(texts_of(write(tmp_path / name, b"\xef\xbb\xbf" + content))) == {"text"}


def test_a_folder_gives_its_readable_files_in_order_without_hidden_ones(tmp_path: Path) -> None:
    for name in ("b.txt", "a/z.txt", "a.txt", ".hidden.txt", ".git/c.txt", "._b.txt"):
        write(tmp_path / name, name.encode())
    write(tmp_path / "picture.png", b"\x89PNG")
    assert texts_of(str(tmp_path)) == ["a/z.txt", "a.txt", "b.txt"]


def test_a_glob_gives_its_matches_in_order(tmp_path: Path) -> None:
    for name in ("b1.txt", "b0.txt", "c.txt", "b.csv"):
        write(tmp_path / name, name.encode())
    assert texts_of(str(tmp_path / "b*")) == ["b0.txt", "b1.txt"]


def test_a_url_is_opened_by_smart_open(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl.gz", gzip.compress(jsonl("far")))
    assert texts_of(f"file://{path}") == ["far"]


def test_a_name_with_glob_characters_is_a_file_where_there_is_one(tmp_path: Path) -> None:
    assert texts_of(write(tmp_path / "a[1].txt", b"x")) == ["x"]


def test_a_file_named_twice_is_read_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write(tmp_path / "a.txt", b"x")
    assert texts_of(str(tmp_path), path) == ["x"]
    assert "named twice" in caplog.text


def test_one_path_instead_of_a_list_is_taken_as_one_path(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", b"x")
    assert [document.text for document in read_documents(path, skipped=Skipped())] == ["x"]


def test_faults_are_counted_by_reason_with_their_places(tmp_path: Path) -> None:
    content = jsonl("good", None) + b'{"text": "cut\n[1]\n\n{"Text": "a"}\n"x"\n{"text": "\xe9"}\n{"text": "\\ud83d"}\n'
    path = write(tmp_path / "a.jsonl", content + b"[" * 100_000 + b"\n" + b"9" * 5000 + b"\n" + jsonl("last"))
    skipped = Skipped()
    assert [document.line for document in read_documents([path], skipped=skipped)] == [1, 12]
    assert skipped.counts == {
        '"text" is no string': 1,
        "broken JSON": 3,
        "no object": 2,
        'no "text"': 1,
        "not UTF-8": 1,
        "half a surrogate pair": 1,
    }
    assert [(example.line, example.reason) for example in skipped.examples][:2] == [
        (2, '"text" is no string'),
        (3, "broken JSON"),
    ]
    assert str(skipped).count(f"{path}:") == 3


def test_all_that_was_left_out_is_listed_with_its_place(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", b"{\n" * 9 + jsonl("x", ""))
    skipped, again = Skipped(), Skipped()
    list(read_documents([path], skipped=skipped))
    skipped.write(tmp_path / "skipped.jsonl")
    listed = [json.loads(line) for line in (tmp_path / "skipped.jsonl").read_text().splitlines()]
    assert [(one["source"], one["line"], one["reason"]) for one in listed] == [
        *((path, line, "broken JSON") for line in range(1, 10)),
        (path, 11, "empty"),
    ]
    again.add_listed(tmp_path / "skipped.jsonl")
    assert (again.counts, again.examples) == (skipped.counts, skipped.examples)


def test_only_three_examples_of_a_reason_are_kept(tmp_path: Path) -> None:
    skipped = Skipped()
    list(read_documents([write(tmp_path / "a.jsonl", b"{\n" * 9 + jsonl("x"))], skipped=skipped))
    assert (skipped.counts["broken JSON"], [example.line for example in skipped.examples]) == (9, [1, 2, 3])


def test_reading_stops_at_the_first_fault_too_many(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", jsonl("x") + b"{\n" * 5 + jsonl("y"))
    assert texts_of(path, max_faults=5) == ["x", "y"]
    with pytest.raises(
        ValueError, match=r"more than 4 faulty documents.*5 broken JSON(?s:.*)a.jsonl:2: .*\n.*a.jsonl:3: "
    ):
        texts_of(path, max_faults=4)


def test_empty_and_short_documents_are_counted_but_no_faults(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", jsonl("", " \n\t", "ab ", "abc"))
    skipped = Skipped()
    documents = list(read_documents([path], skipped=skipped, max_faults=0, min_length=3))
    assert [document.text for document in documents] == ["abc"]
    assert (skipped.counts, skipped.faults, skipped.total) == ({"empty": 2, "too short": 1}, 0, 3)


def test_documents_over_the_limit_and_with_nul_characters_are_faults(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", jsonl("abc", "  abcd ", "a\0b", "ab"))
    skipped = Skipped()
    documents = list(read_documents([path], skipped=skipped, max_length=3))
    assert [document.text for document in documents] == ["abc", "ab"]
    assert (skipped.counts, skipped.faults) == ({"too long": 1, "NUL character": 1}, 2)
    assert [str(example) for example in skipped.examples] == [
        f"{path}:2: 4 characters, at most 3 were asked for",
        f"{path}:3: a NUL character, number 2 of the text",
    ]


@pytest.mark.parametrize(
    "text",
    ["<p>HTML &amp; co.</p>", "one\r\ntwo", "x" * 1_000_000, "שלום עולם", "a\u200bb\u200d", "y" * 200_000, "\x1b[0m"],
)
def test_odd_text_is_text(tmp_path: Path, text: str) -> None:
    skipped = Skipped()
    path = write(tmp_path / "a.jsonl", jsonl(text))
    assert [document.text for document in read_documents([path], skipped=skipped)] == [text]
    assert skipped.total == 0


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("name", ["a.txt", "a.jsonl.gz"])
def test_utf16_is_refused_by_name(tmp_path: Path, name: str, encoding: str) -> None:
    content = '{"text": "some words"}\n'.encode(encoding)
    path = write(tmp_path / name, gzip.compress(content) if name.endswith("gz") else content)
    with pytest.raises(ValueError, match=rf"{name} looks like UTF-16.*convert it to UTF-8 with"):
        texts_of(path)


@pytest.mark.parametrize(
    ("content", "line", "guess"),
    [
        (b"one\ntwo\ncaf\xe9 three\n", 3, "looks like Latin-1"),
        (CYRILLIC, 1, "looks like GB18030, Shift JIS, KOI8"),
        ("é\n".encode() + b"\xe9\n", 2, "after good UTF-8: damaged"),
    ],
)
def test_a_txt_in_another_encoding_is_refused_with_line_and_guess(
    tmp_path: Path, content: bytes, line: int, guess: str
) -> None:
    with pytest.raises(ValueError, match=rf"a.txt is not UTF-8 in line {line} .*{guess}"):
        texts_of(write(tmp_path / "a.txt", content))


def test_a_jsonl_without_one_line_of_utf8_is_refused_with_its_encoding(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", b'{"text": "caf\xe9"}\n' * 3)
    with pytest.raises(ValueError, match=r"no line of .*a.jsonl is UTF-8: .*Latin-1"):
        texts_of(path, write(tmp_path / "b.txt", b"fine"))


@pytest.mark.parametrize("before", [b"", b"   ", b"\xef\xbb\xbf"])
def test_the_byte_that_is_no_utf8_is_named_whatever_stands_before_the_line(tmp_path: Path, before: bytes) -> None:
    path, skipped = write(tmp_path / "a.jsonl", b'{"text": "good"}\n' + before + b'{"text": "caf\xe9"}\n'), Skipped()
    list(read_documents([path], skipped=skipped))
    assert "byte 0xE9: looks like Latin-1" in str(skipped)


def test_a_trouble_of_the_system_is_not_taken_for_false_compression(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> bytes:
        raise OSError(errno.EIO, "Input/output error")

    path = write(tmp_path / "a.jsonl.gz", gzip.compress(jsonl("text")))
    monkeypatch.setattr("gzip.GzipFile.read1", fail)
    monkeypatch.setattr("gzip.GzipFile.readinto", fail)
    with pytest.raises(OSError, match="Input/output error"):
        texts_of(path)


def test_a_binary_file_is_named_as_what_it_is(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"a.txt is a gzip file"):
        texts_of(write(tmp_path / "a.txt", gzip.compress(b"text")))


@pytest.mark.parametrize("suffix", [".gz", ".zst", ".bz2", ".xz"])
def test_false_compression_is_named(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"a.jsonl{suffix}", jsonl("not compressed at all"))
    with pytest.raises(
        ValueError, match=rf"a.jsonl{suffix} cannot be decompressed: expected .* by its suffix {suffix}"
    ):
        texts_of(path)


@pytest.mark.parametrize("suffix", [".gz", ".zst", ".bz2", ".xz"])
def test_truncated_compression_is_named(tmp_path: Path, suffix: str) -> None:
    whole = COMPRESS[suffix](jsonl(*(random.Random(0).randbytes(30).hex() for _ in range(2000))))
    path = write(tmp_path / f"a.jsonl{suffix}", whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=rf"a.jsonl{suffix} is truncated"):
        texts_of(path)


def test_a_missing_path_is_an_error_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"there is no .*/nowhere"):
        read_documents([write(tmp_path / "a.txt", b"x"), str(tmp_path / "nowhere")], skipped=Skipped())


@pytest.mark.parametrize("name", ["a.csv", "a", "a.parquet.gz", "a.gz"])
def test_an_unknown_suffix_is_refused_with_the_known_ones(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=r"cannot read .*\.txt, \.jsonl, \.json, \.parquet"):
        read_documents([write(tmp_path / name, b"x")], skipped=Skipped())


@pytest.mark.parametrize("pattern", ["", "*.csv"])
def test_a_folder_or_glob_without_readable_files_tells_the_suffixes(tmp_path: Path, pattern: str) -> None:
    write(tmp_path / "a.csv", b"x")
    with pytest.raises(ValueError, match=r"no file that can be read.*\.txt, \.jsonl"):
        read_documents([str(tmp_path / pattern)], skipped=Skipped())


def test_no_path_at_all_is_an_error() -> None:
    with pytest.raises(ValueError, match="no path"):
        read_documents([], skipped=Skipped())


def test_a_corpus_without_a_usable_document_tells_why(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", jsonl(" ") + b'[{"text": "a"}]\n')
    with pytest.raises(ValueError, match=r"no usable document.*1 empty, 1 no object(?s:.*)a.jsonl:2: a JSON array.*jq"):
        texts_of(path)


@pytest.mark.parametrize(
    ("value", "hint"), [([{"text": "a"}], r'jq -c "\.\[\]"'), ({"text": "a"}, r"jq -c \.`")], ids=ascii
)
def test_json_over_several_lines_is_refused_with_what_to_do(tmp_path: Path, value: object, hint: str) -> None:
    path = write(tmp_path / "a.json", json.dumps(value, indent=1).encode())
    with pytest.raises(ValueError, match=f"a.json:1: JSON over several lines, expected one object a line.*{hint}"):
        texts_of(path)


def test_an_object_with_two_texts_is_a_fault_and_texts_further_inside_are_none(tmp_path: Path) -> None:
    inner = b'{"id": {"text": "x"}, "text": "say \\"text\\"", "more": [{"text": 1, "text": 2}]}\n'
    path = write(tmp_path / "a.jsonl", b'{"text": "a", "text": "b"}\n' + inner)
    skipped = Skipped()
    assert [document.text for document in read_documents([path], skipped=skipped)] == ['say "text"']
    assert skipped.counts == {'two "text"': 1}


def test_a_long_txt_is_cut_after_paragraphs_and_nothing_is_lost(tmp_path: Path) -> None:
    paragraph = "Ein Absatz mit é.\nZweite Zeile.\n\n"
    whole = paragraph * (52_000_000 // len(paragraph.encode()))
    path = write(tmp_path / "a.txt", whole.encode())
    documents = list(read_documents([path], skipped=Skipped()))
    assert "".join(document.text for document in documents) == whole
    assert 52 <= len(documents) <= 56
    assert all(document.text.endswith(".\n\n") and document.text.startswith("Ein Absatz") for document in documents)
    assert documents[1].line == 1 + documents[0].text.count("\n")


@pytest.mark.parametrize(
    ("text", "ends"),
    [("line of words\n" * 20, "\n"), ("words and words " * 20, " "), ("中" * 100, "中")],
    ids=["lines", "words", "characters"],
)
def test_a_long_txt_without_paragraphs_is_cut_at_the_next_best_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, ends: str
) -> None:
    monkeypatch.setattr("spacy_electra.data.corpus.formats.PART_OF_TXT", 40)
    path, limits = write(tmp_path / "a.txt", text.encode()), MemoryLimits(document_mb=0.0001)
    found = [document.text for document in read_documents([path], skipped=Skipped(), memory=limits)]
    assert "".join(found) == text
    assert len(found) > 5
    assert all(part.endswith(ends) and len(part.encode()) <= 40 for part in found)


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.txt"])
def test_progress_adds_up_to_the_size_on_disk(tmp_path: Path, name: str) -> None:
    content = jsonl(*("word " * 100 for _ in range(1000)))
    path = write(tmp_path / name, gzip.compress(content) if name.endswith("gz") else content)
    steps: list[int] = []
    list(read_documents([path], skipped=Skipped(), on_bytes=steps.append))
    assert sum(steps) == Path(path).stat().st_size == total_bytes(find_files([path]))
    assert all(step > 0 for step in steps)


def test_documents_stream_before_the_file_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", jsonl(*("word " * 1000 for _ in range(1000))))
    steps: list[int] = []
    next(read_documents([path], skipped=Skipped(), on_bytes=steps.append))
    assert 0 < sum(steps) < 1_000_000 < Path(path).stat().st_size


@pytest.mark.skipif(importlib.util.find_spec("pyarrow") is not None, reason="pyarrow is installed")
def test_parquet_without_pyarrow_says_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(ImportError, match=r"a.parquet needs the package pyarrow: pip install pyarrow"):
        texts_of(write(tmp_path / "a.parquet", b"PAR1"))


def test_parquet_gives_the_column_text_and_counts_what_is_missing(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    table = arrow.table({"id": list(range(3000)), "text": ["first", None, *(f"text {n}" for n in range(2998))]})
    parquet.write_table(table, tmp_path / "a.parquet")
    skipped = Skipped()
    documents = list(read_documents([str(tmp_path / "a.parquet")], skipped=skipped))
    assert [(document.text, document.line) for document in documents[:2]] == [("first", 1), ("text 0", 3)]
    assert (len(documents), documents[-1].line, skipped.counts) == (2999, 3000, {'"text" is no string': 1})


def test_parquet_without_the_column_or_damaged_is_named(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(arrow.table({"body": ["a"]}), tmp_path / "a.parquet")
    with pytest.raises(ValueError, match=r'a.parquet has the columns body, expected one named "text"'):
        texts_of(str(tmp_path / "a.parquet"))
    with pytest.raises(ValueError, match=r"b.parquet is damaged or no Parquet file"):
        texts_of(write(tmp_path / "b.parquet", b"PAR1 and nothing else"))
