"""What a corpus may take of memory: files that unpack to much more than they are, lines and documents without end."""

import bz2
import gzip
import json
import lzma
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import zstandard

from spacy_electra.data.corpus.documents import read_documents
from spacy_electra.data.corpus.limits import MB, MemoryLimits
from spacy_electra.data.corpus.skipped import Skipped
from spacy_electra.data.tokenizer.wordpiece import train_wordpiece

ONE_MB = MemoryLimits(document_mb=1)
READ = """
import resource, sys
from spacy_electra.data.corpus.documents import read_documents
from spacy_electra.data.corpus.limits import MemoryLimits
from spacy_electra.data.corpus.skipped import Skipped
for name in sys.argv[2:]:
    __import__(name)

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10

before, skipped = peak(), Skipped()
try:
    documents = sum(1 for _ in read_documents([sys.argv[1]], skipped=skipped, memory=MemoryLimits(document_mb=1)))
except ValueError as error:
    documents = str(error)
print(documents, skipped.counts, peak() - before, sep="|")
"""


def read_elsewhere(path: Path, *modules: str) -> tuple[str, str, int]:
    """Documents or the error, what was left out, and by how many MiB reading with limits of 1 MB raised the peak."""
    pytest.importorskip("resource")
    command = [sys.executable, "-c", READ, str(path), *modules]
    answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout.rsplit("|", 2)
    return answer[0], answer[1], int(answer[2])


def left_out(path: Path, limits: MemoryLimits = ONE_MB) -> tuple[list[int], dict[int, str]]:
    """The lines that were read, and for the others why not."""
    skipped = Skipped()
    lines = [document.line for document in read_documents([str(path)], skipped=skipped, memory=limits)]
    return lines, {example.line: example.detail for example in skipped.examples}


def line_of(text: str, **others: object) -> bytes:
    return json.dumps({"text": text, **others}).encode() + b"\n"


@pytest.mark.parametrize("suffix", ["", ".gz", ".bz2", ".xz", ".zst"])
def test_a_line_larger_than_a_document_may_be_is_a_fault_and_the_next_is_read(tmp_path: Path, suffix: str) -> None:
    pack: dict[str, Callable[[bytes], bytes]] = {
        "": bytes,
        ".gz": gzip.compress,
        ".bz2": bz2.compress,
        ".xz": lzma.compress,
        ".zst": zstandard.compress,
    }
    path = tmp_path / f"a.jsonl{suffix}"
    path.write_bytes(pack[suffix](line_of("first") + line_of("x" * 15 * MB) + line_of("last")))
    documents, counts, megabytes = read_elsewhere(path)
    assert (documents, counts) == ("2", "{'too large': 1}")
    assert megabytes < 15
    assert "more than 1 MB" in left_out(path)[1][2]
    assert "--max-document-mb" in left_out(path)[1][2]


def test_a_document_as_large_as_allowed_is_read(tmp_path: Path) -> None:
    room = MB - len(line_of("")) + 1
    (tmp_path / "a.jsonl").write_bytes(line_of("x" * room) + line_of("x" * (room + 1)))
    assert left_out(tmp_path / "a.jsonl")[0] == [1]
    assert left_out(tmp_path / "a.jsonl", MemoryLimits(document_mb=2))[0] == [1, 2]


def test_a_line_without_end_is_refused_with_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    with path.open("wb") as file:
        file.write(line_of("a") + b'{"text": "' + b"x" * 5000)
        file.truncate(1 << 34)
    documents, _, megabytes = read_elsewhere(path)
    assert f"line 2 of {path} has no end within 20 MB (20 times --max-document-mb)" in documents
    assert "jq" in documents
    assert megabytes < 15


@pytest.mark.parametrize(
    "value",
    ["[" + "[]," * 300_000 + "0]", "[" + '{"a":0},' * 100_000 + "0]", "[" + "0," * 400_000 + "0]"],
    ids=["lists", "objects", "numbers"],
)
def test_json_of_many_values_is_a_fault_that_takes_little_memory(tmp_path: Path, value: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"text": "a", "rest": ' + value.encode() + b"}\n" + line_of("b"))
    documents, counts, megabytes = read_elsewhere(path)
    assert (documents, counts) == ("1", "{'too large': 1}")
    assert megabytes < 12
    assert "more than 20,000 JSON values" in left_out(path)[1][1]


@pytest.mark.parametrize("text", ["a, [b], {c}, ", '\\"a,", [', "\\\\,"], ids=["marks", "quotes", "backslashes"])
def test_marks_of_json_in_a_text_are_no_values(tmp_path: Path, text: str) -> None:
    long = text * (400_000 // len(text))
    (tmp_path / "a.jsonl").write_bytes(line_of(long, other=[1, 2, {"a": "b,"}]))
    documents = list(read_documents([str(tmp_path / "a.jsonl")], skipped=Skipped(), memory=ONE_MB))
    assert [document.text for document in documents] == [long]


def test_json_that_is_nested_too_deep_says_so(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"text": "a", "rest": ' + b"[" * 10_000 + b"]" * 10_000 + b"}\n" + line_of("b"))
    lines, faults = left_out(path)
    assert lines == [2]
    assert "nested hundreds deep" in faults[1]


def test_a_message_about_a_line_is_short_whatever_the_line_holds(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(json.dumps({"k" * 500_000: 1}).encode() + b"\n" + line_of("b"))
    assert len(left_out(path)[1][1]) < 500


def large_window(compression: str, log: int) -> bytes:
    content = line_of("a")
    if compression == "xz":
        return lzma.compress(content, filters=[{"id": lzma.FILTER_LZMA2, "dict_size": 1 << log}])
    parameters = zstandard.ZstdCompressionParameters.from_level(3, window_log=log)
    packer = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    return packer.compress(content) + packer.flush()


@pytest.mark.parametrize("compression", ["zst", "xz"])
def test_a_large_window_is_refused_with_what_to_do_and_read_if_allowed(tmp_path: Path, compression: str) -> None:
    path = tmp_path / f"a.jsonl.{compression}"
    path.write_bytes(large_window(compression, 28))
    with pytest.raises(ValueError, match=r"a.jsonl.* needs more than 128 MB to be unpacked.*--max-window-mb.* again"):
        left_out(path)
    assert left_out(path, MemoryLimits(window_mb=256))[0] == [1]
    path.write_bytes(large_window(compression, 26))
    assert left_out(path)[0] == [1]


def test_xz_with_several_streams_and_padding_is_read_as_one_file(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.xz"
    path.write_bytes(lzma.compress(line_of("a")) + b"\0" * 8 + lzma.compress(line_of("b")) + b"\0" * 4096)
    assert left_out(path)[0] == [1, 2]


@pytest.mark.parametrize(("compression", "bits"), [("gz", b"\x1f\x8b"), ("xz", b"\xfd7zXZ\0"), ("zst", b"\x28\xb5")])
def test_a_bomb_is_unpacked_no_further_than_it_is_read(tmp_path: Path, compression: str, bits: bytes) -> None:
    path = tmp_path / f"a.txt.{compression}"
    content = b"word " * 6_000_000
    pack = {"gz": gzip.compress, "xz": lambda data: lzma.compress(data, preset=0), "zst": zstandard.compress}
    path.write_bytes(pack[compression](content))
    assert path.read_bytes().startswith(bits)
    documents, _, megabytes = read_elsewhere(path)
    assert documents == "30"
    assert megabytes < 20


def write_parquet(path: Path, texts: object, **options: object) -> None:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    parquet.write_table(arrow.table({"text": texts}), path, compression="zstd", store_schema=False, **options)


def test_a_parquet_value_that_many_rows_repeat_is_held_a_few_times(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    indices = arrow.array(np.zeros(100, dtype=np.int32))
    write_parquet(tmp_path / "a.parquet", arrow.DictionaryArray.from_arrays(indices, ["a" * MB]))
    assert (tmp_path / "a.parquet").stat().st_size < 2000
    documents, _, megabytes = read_elsewhere(tmp_path / "a.parquet", "pyarrow.parquet")
    assert documents == "100"
    assert megabytes < 50


@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize("use_dictionary", [True, False])
def test_a_parquet_page_beyond_memory_is_refused_before_it_is_unpacked(
    tmp_path: Path, version: str, use_dictionary: bool
) -> None:
    path = tmp_path / "a.parquet"
    write_parquet(path, ["x", "a" * 30 * MB], use_dictionary=use_dictionary, data_page_version=version)
    documents, _, megabytes = read_elsewhere(path, "pyarrow.parquet")
    assert f"{path} has a page of 30 MB, at most 4 may be unpacked at once" in documents
    assert "--max-document-mb" in documents
    assert megabytes < 20


def test_a_parquet_row_larger_than_a_document_may_be_is_a_fault(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a.parquet", ["a", "é" * 700_000, "b"])
    lines, faults = left_out(tmp_path / "a.parquet")
    assert lines == [1, 3]
    assert "more than 1 MB" in faults[2]


def test_parquet_of_many_pages_and_row_groups_is_read_whole(tmp_path: Path) -> None:
    texts = [f"text {number} " * 9 if number % 7 else None for number in range(5000)]
    write_parquet(tmp_path / "a.parquet", texts, row_group_size=1300, data_page_size=1000, write_batch_size=10)
    skipped = Skipped()
    found = [document.text for document in read_documents([str(tmp_path / "a.parquet")], skipped=skipped)]
    assert found == [text for text in texts if text is not None]
    assert skipped.total == texts.count(None)


def test_a_parquet_column_of_lists_is_refused(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a.parquet", [["a"], ["b"]])
    with pytest.raises(ValueError, match=r'the column "text" of .*a.parquet holds list<.*>, expected strings'):
        left_out(tmp_path / "a.parquet")


WITHOUT_SPACES = """
import resource, sys
from spacy_electra.data.store.tokenize import encode_texts
from spacy_electra.data.tokenizer.wordpiece import train_wordpiece

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10

before, text = peak(), sys.argv[1] * 1_000_000
wordpiece = train_wordpiece([text, "a b ."], vocab_size=14, cased=False, strip_accents=None)
print(len(encode_texts(wordpiece, [text])[0]), peak() - before)
"""


@pytest.mark.parametrize(("text", "pieces"), [("你", 1_000_000), ("a.", 2_000_000), ("ab", 14)], ids=ascii)
def test_text_without_spaces_takes_little_memory(text: str, pieces: int) -> None:
    pytest.importorskip("resource")
    command = [sys.executable, "-c", WITHOUT_SPACES, text]
    answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    assert int(answer[0]) == pieces
    assert int(answer[1]) < 200


def test_a_vocabulary_beyond_memory_is_refused() -> None:
    with pytest.raises(ValueError, match="vocab_size=1000000000 is too large, expected at most 10000000"):
        train_wordpiece(["a"], vocab_size=1_000_000_000, cased=False, strip_accents=None)
