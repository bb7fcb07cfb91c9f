"""The checks before a release refuse what should not be published, one fault at a time."""

import io
import shutil
import tarfile
import zipfile
from pathlib import Path

import pytest
from check_packages import IN_SDIST, IN_WHEELS, KERNELS, LICENSES, check_sdist, check_wheel, find_packages
from check_release import find_faults
from wheel_tests import copy_tree, tracked_files

import spacy_electra

VERSION = spacy_electra.__version__
METADATA = f"spacy_electra-{VERSION}.dist-info"
ANY, LINUX = "py3-none-any", "py3-none-manylinux_2_28_x86_64"
PLAIN = {*IN_WHEELS, *(f"{METADATA}/licenses/{name}" for name in LICENSES)}


def write_wheel(folder: Path, names: set[str], *, tag: str) -> Path:
    path = folder / f"spacy_electra-{VERSION}-{tag}.whl"
    with zipfile.ZipFile(path, "w") as packed:
        for name in names:
            packed.writestr(name, "")
    return path


def write_sdist(folder: Path, names: set[str]) -> Path:
    path = folder / f"spacy_electra-{VERSION}.tar.gz"
    with tarfile.open(path, "w:gz") as packed:
        for name in names:
            packed.addfile(tarfile.TarInfo(f"spacy_electra-{VERSION}/{name}"), io.BytesIO())
    return path


@pytest.mark.parametrize(("tag", "names"), [(ANY, PLAIN), (LINUX, PLAIN | KERNELS)])
def test_a_whole_wheel_passes(tmp_path: Path, tag: str, names: set[str]):
    check_wheel(write_wheel(tmp_path, names, tag=tag))


@pytest.mark.parametrize(
    ("tag", "names", "message"),
    [
        (ANY, PLAIN - {"spacy_electra/py.typed"}, "lacks spacy_electra/py.typed"),
        (ANY, PLAIN - {f"{METADATA}/licenses/NOTICE"}, "lacks .*NOTICE"),
        (ANY, PLAIN | KERNELS, "has kernels that it should not have"),
        (ANY, PLAIN | {"spacy_electra/model.safetensors"}, "holds weights"),
        (LINUX, PLAIN, "or lacks some: spacy_electra/model/_kernels_encoder.so"),
        ("py3-none-linux_x86_64", PLAIN | KERNELS, "is for linux_x86_64, which registries refuse"),
    ],
)
def test_a_wheel_with_a_fault_is_refused_by_name(tmp_path: Path, tag: str, names: set[str], message: str):
    with pytest.raises(ValueError, match=message):
        check_wheel(write_wheel(tmp_path, names, tag=tag))


def test_an_sdist_must_hold_what_compiles_and_what_is_owed(tmp_path: Path):
    check_sdist(write_sdist(tmp_path, set(IN_SDIST)))
    for name in ("NOTICE", "spacy_electra/model/kernels/encoder.c"):
        with pytest.raises(ValueError, match=f"lacks {name}"):
            check_sdist(write_sdist(tmp_path, set(IN_SDIST) - {name}))
    with pytest.raises(ValueError, match="holds weights"):
        check_sdist(write_sdist(tmp_path, {*IN_SDIST, "assets/electra-en/discriminator/model.safetensors"}))


def test_packages_of_another_version_are_none(tmp_path: Path):
    (tmp_path / "spacy_electra-0.0.0-py3-none-any.whl").touch()
    write_sdist(tmp_path, set())
    with pytest.raises(ValueError, match=r"holds .*0\.0\.0.*expected the sdist and a wheel of version"):
        find_packages(tmp_path)


@pytest.fixture
def finished(tmp_path: Path, root: Path) -> Path:
    """The files of a project that may be released as 1.2.3."""
    (tmp_path / "CHANGELOG.md").write_text("# Changelog\n\n## 1.2.3\n\n- News.\n\n## 1.2.2\n", encoding="utf8")
    cited = (root / "CITATION.cff").read_text(encoding="utf8").replace(f"\nversion: {VERSION}", "\nversion: 1.2.3")
    (tmp_path / "CITATION.cff").write_text(f"{cited}date-released: 2026-01-31\n", encoding="utf8")
    setup = "[metadata]\nproject_urls =\n    Source = https://example.org/code\n"
    (tmp_path / "setup.cfg").write_text(setup, encoding="utf8")
    return tmp_path


def test_a_finished_project_may_be_released(finished: Path):
    assert find_faults("v1.2.3", "1.2.3", finished) == []


@pytest.mark.parametrize(
    ("name", "old", "new", "fault"),
    [
        ("CHANGELOG.md", "## 1.2.3", "## 1.2.3 (unreleased)", "the newest heading of CHANGELOG.md"),
        ("CITATION.cff", "version: 1.2.3", "version: 1.2.2", "CITATION.cff has version 1.2.2"),
        ("CITATION.cff", "date-released: 2026-01-31", "", "CITATION.cff has no date-released"),
        ("setup.cfg", "Source =", "Paper =", "setup.cfg has no 'Source = ADDRESS'"),
    ],
)
def test_what_is_unfinished_is_named(finished: Path, name: str, old: str, new: str, fault: str):
    text = (finished / name).read_text(encoding="utf8")
    (finished / name).write_text(text.replace(old, new), encoding="utf8")
    (found,) = find_faults("v1.2.3", "1.2.3", finished)
    assert found.startswith(fault)


def test_a_tag_of_another_version_is_named(finished: Path):
    assert [fault.split(",")[0] for fault in find_faults("1.2.3", "1.2.3", finished)] == ["the tag is 1.2.3"]


def test_the_tests_of_a_wheel_run_without_the_source_of_the_package(tmp_path: Path):
    names = ["setup.cfg", "tests/data/test_a.py", "spacy_electra/__init__.py", "spacy_electra_notes.md"]
    for name in names:
        (tmp_path / "project" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "project" / name).write_text(name, encoding="utf8")
    tree = copy_tree(names, tmp_path / "project", tmp_path / "tree")
    copied = {path.relative_to(tree).as_posix(): path.read_text("utf8") for path in tree.rglob("*") if path.is_file()}
    assert copied == {name: name for name in names if name != "spacy_electra/__init__.py"}


@pytest.mark.skipif(shutil.which("git") is None, reason="no git")
def test_what_git_ignores_is_not_copied(root: Path):
    if not (root / ".git").exists():
        pytest.skip("not a checkout")
    names = tracked_files(root)
    assert {"setup.cfg", "tests/project/test_releasing.py"} <= set(names)
    assert not [name for name in names if name.startswith((".venv/", "build/")) or "__pycache__" in name]
