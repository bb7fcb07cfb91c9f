"""Limits of control groups, both versions, on files laid out as the kernel shows them."""

from pathlib import Path

import pytest

from spacy_electra.training.cgroups import NO_LIMIT, VERSION_1, VERSION_2, CgroupFiles, memory_left


def make_group(folder: Path, names: CgroupFiles, *, limit: str, used: int, cached: int = 0) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / names.limit).write_text(f"{limit}\n")
    (folder / names.used).write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 1\n{names.cached} {cached}\n")


@pytest.fixture
def membership(tmp_path: Path) -> Path:
    path = tmp_path / "membership"
    path.write_text("5:cpu,cpuacct:/\n4:memory:/jobs/7\n0::/user/service\n")
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "cgroup"


def test_without_groups_there_is_no_limit(root: Path, membership: Path, tmp_path: Path) -> None:
    assert memory_left(root, membership) == NO_LIMIT
    assert memory_left(root, tmp_path / "nothing") == NO_LIMIT


@pytest.mark.parametrize(
    ("folder", "names"), [("memory/jobs/7", VERSION_1), ("user/service", VERSION_2)], ids=["version 1", "version 2"]
)
def test_cached_files_give_way(root: Path, membership: Path, folder: str, names: CgroupFiles) -> None:
    make_group(root / folder, names, limit="1000", used=700, cached=150)
    assert memory_left(root, membership) == 450


@pytest.mark.parametrize(
    ("inner", "outer", "names"),
    [("memory/jobs/7", "memory/jobs", VERSION_1), ("user/service", "", VERSION_2)],
    ids=["version 1", "version 2"],
)
def test_the_least_of_the_groups_above_counts(
    root: Path, membership: Path, inner: str, outer: str, names: CgroupFiles
) -> None:
    make_group(root / outer, names, limit="1000", used=800)
    make_group(root / inner, names, limit="900", used=100)
    assert memory_left(root, membership) == 200


def test_a_container_that_sees_its_own_group_as_the_first_is_limited_by_it(root: Path, membership: Path) -> None:
    make_group(root / "memory", VERSION_1, limit="1000", used=900)  # the path in the membership is the host's
    assert memory_left(root, membership) == 100


def test_no_limit_in_words_is_none(root: Path, membership: Path) -> None:
    make_group(root / "user/service", VERSION_2, limit="max", used=700)
    assert memory_left(root, membership) == NO_LIMIT


def test_what_is_used_beyond_the_limit_leaves_nothing(root: Path, membership: Path) -> None:
    make_group(root / "user/service", VERSION_2, limit="1000", used=1200)
    assert memory_left(root, membership) == 0


def test_groups_beside_those_of_the_process_do_not_count(root: Path, membership: Path) -> None:
    make_group(root / "memory/jobs/8", VERSION_1, limit="1000", used=900)
    make_group(root / "user/other", VERSION_2, limit="1000", used=900)
    assert memory_left(root, membership) == NO_LIMIT
