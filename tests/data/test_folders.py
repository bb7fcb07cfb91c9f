"""What of a folder is text of a corpus."""

import logging
import os
from pathlib import Path

import pytest

from spacy_electra.data.corpus.folders import files_below, files_matching
from spacy_electra.data.corpus.limits import MemoryLimits
from spacy_electra.data.corpus.sources import find_files, open_source


def make(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")


def names_below(folder: Path) -> list[str]:
    return [os.path.relpath(name, folder) for name in files_below(str(folder))]


def test_files_come_in_the_order_of_their_paths_without_hidden_ones(tmp_path: Path) -> None:
    make(tmp_path, "b.txt", "a/z.txt", "a-b.txt", ".hidden/c.txt", "a/.c.txt")
    assert names_below(tmp_path) == ["a/z.txt", "a-b.txt", "b.txt"]


def test_what_a_store_a_part_and_a_model_keep_is_no_text(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    make(tmp_path, "text.jsonl", "store/manifest.json", "store/skipped.jsonl", "store/shard-00000.bin")
    make(tmp_path, "store/parts/1/building.json", "store/parts/1/shard-00000.bin", "store/tokenizer/vocab.txt")
    make(tmp_path, "store/tokenizer/tokenizer.json", "bert/vocab.txt", "bert/tokenizer_config.json", "bert/config.json")
    make(tmp_path, "empty-part/manifest.json", "empty-part/starts.npy", "store/note.txt")
    with caplog.at_level(logging.WARNING):
        assert [name for name in names_below(tmp_path) if not name.endswith((".bin", ".npy"))] == [
            "store/note.txt",
            "text.jsonl",
        ]
    assert f"{tmp_path / 'store'}: passed over, as files of a token store or a model: manifest.json, " in caplog.text


def test_names_of_a_store_are_text_where_there_is_none(tmp_path: Path) -> None:
    make(tmp_path, "manifest.json", "vocab.txt", "config.json")
    assert names_below(tmp_path) == ["config.json", "manifest.json", "vocab.txt"]


def test_a_glob_passes_over_the_same(tmp_path: Path) -> None:
    make(tmp_path, "store/manifest.json", "store/shard-00000.bin", "store/a.json", "b.json")
    found = files_matching(str(tmp_path / "**" / "*.json"))
    assert found == [str(tmp_path / "b.json"), str(tmp_path / "store" / "a.json")]


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_folders_behind_links_count_once(tmp_path: Path) -> None:
    make(tmp_path, "real/a.txt", "corpus/b.txt")
    (tmp_path / "corpus" / "more").symlink_to(tmp_path / "real")
    (tmp_path / "corpus" / "round").symlink_to(tmp_path / "corpus")
    (tmp_path / "corpus" / "twice").symlink_to(tmp_path / "real")
    assert names_below(tmp_path / "corpus") == ["b.txt", "more/a.txt"]


def test_a_folder_that_cannot_be_read_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path, "open/a.txt", "closed/b.txt")
    scan = os.scandir

    def refuse(path: str) -> object:
        if path.endswith("closed"):
            raise PermissionError(13, "Permission denied", path)
        return scan(path)

    monkeypatch.setattr("os.scandir", refuse)
    with pytest.raises(PermissionError, match="closed"):
        files_below(str(tmp_path))


def test_a_suffix_of_the_callers_is_found_too(tmp_path: Path) -> None:
    make(tmp_path, "a.txt", "b.spacy", "c.png")
    expected = [str(tmp_path / "a.txt"), str(tmp_path / "b.spacy")]
    for path in (tmp_path, tmp_path / "*"):
        assert find_files([path], other=".spacy") == expected
    make(tmp_path / "only", "b.spacy")
    with pytest.raises(ValueError, match=r"holds no file that can be read. Readable are \.txt"):
        find_files([tmp_path / "only"])


def test_a_url_that_nothing_reads_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"cannot open nothing://x/y\.jsonl: .* Known are .*https://"):
        open_source("nothing://x/y.jsonl", MemoryLimits()).__enter__()


def test_a_url_of_a_file_is_read(tmp_path: Path) -> None:
    make(tmp_path, "a.txt")
    with open_source((tmp_path / "a.txt").as_uri(), MemoryLimits()) as source:
        assert source.stream.read() == b"{}"
