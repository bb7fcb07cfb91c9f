"""The checks before a release refuse what should not be published, one fault at a time."""

import io
import shutil
import tarfile
import zipfile
from configparser import ConfigParser
from pathlib import Path

import pytest
from check_packages import (
    KERNELS,
    PACKAGE,
    Distribution,
    check_sdist,
    check_wheel,
    find_packages,
    version_of,
)
from check_release import find_faults
from packaging.requirements import Requirement
from wheel_tests import copy_tree, tracked_files

import spacy_electra

VERSION = spacy_electra.__version__
ANY, LINUX = "py3-none-any", "py3-none-manylinux_2_28_x86_64"
BOTH = pytest.mark.parametrize("distribution", [PACKAGE, KERNELS], ids=lambda distribution: distribution.name)


def in_wheel(distribution: Distribution) -> set[str]:
    """What a whole wheel has."""
    metadata = f"{distribution.name}-{version_of(distribution)}.dist-info"
    licenses = {f"{metadata}/licenses/{name}" for name in distribution.licenses}
    return {*distribution.in_wheels, *licenses, *filter(None, [distribution.library])}


def write_wheel(folder: Path, distribution: Distribution, names: set[str], *, tag: str) -> Path:
    path = folder / f"{distribution.name}-{version_of(distribution)}-{tag}.whl"
    with zipfile.ZipFile(path, "w") as packed:
        for name in names:
            packed.writestr(name, "")
    return path


def write_sdist(folder: Path, distribution: Distribution, names: set[str]) -> Path:
    top = f"{distribution.name}-{version_of(distribution)}"
    with tarfile.open(folder / f"{top}.tar.gz", "w:gz") as packed:
        for name in names:
            packed.addfile(tarfile.TarInfo(f"{top}/{name}"), io.BytesIO())
    return folder / f"{top}.tar.gz"


@pytest.mark.parametrize(("distribution", "tag"), [(PACKAGE, ANY), (KERNELS, LINUX)], ids=["package", "kernels"])
def test_a_whole_wheel_passes(tmp_path: Path, distribution: Distribution, tag: str):
    check_wheel(write_wheel(tmp_path, distribution, in_wheel(distribution), tag=tag))


LIBRARY = "spacy_electra_kernels/libspacy_electra_kernels.so"


@pytest.mark.parametrize(
    ("distribution", "tag", "changed", "message"),
    [
        (PACKAGE, ANY, "spacy_electra/py.typed", "lacks spacy_electra/py.typed"),
        (PACKAGE, ANY, f"spacy_electra-{VERSION}.dist-info/licenses/NOTICE", "lacks .*NOTICE"),
        (PACKAGE, ANY, "spacy_electra/model.safetensors", "holds weights"),
        (PACKAGE, ANY, "spacy_electra/model/fast.so", "one too many: spacy_electra/model/fast.so"),
        (PACKAGE, LINUX, "more.py", "only a wheel without a library is for any system"),
        (PACKAGE, "cp311-cp311-manylinux_2_28_x86_64", "more.py", "for some versions of Python alone"),
        (KERNELS, LINUX, LIBRARY, f"lacks a library, or has one too many: {LIBRARY}"),
        (KERNELS, ANY, "more.py", "only a wheel without a library is for any system"),
        (KERNELS, "py3-none-linux_x86_64", "more.py", "is for linux_x86_64, which registries refuse"),
    ],
)
def test_a_wheel_with_a_fault_is_refused_by_name(
    tmp_path: Path, distribution: Distribution, tag: str, changed: str, message: str
):
    """changed: a file that is left out, or added."""
    with pytest.raises(ValueError, match=message):
        check_wheel(write_wheel(tmp_path, distribution, in_wheel(distribution) ^ {changed}, tag=tag))


@BOTH
def test_an_sdist_must_hold_what_compiles_and_what_is_owed(tmp_path: Path, distribution: Distribution):
    whole = {*distribution.licenses, *distribution.in_sdist}
    check_sdist(write_sdist(tmp_path, distribution, whole))
    for name in whole:
        with pytest.raises(ValueError, match=f"lacks {name}"):
            check_sdist(write_sdist(tmp_path, distribution, whole - {name}))
    with pytest.raises(ValueError, match="holds weights"):
        check_sdist(write_sdist(tmp_path, distribution, {*whole, "assets/electra-en/discriminator/model.safetensors"}))


@BOTH
def test_packages_of_another_version_are_none(tmp_path: Path, distribution: Distribution):
    (tmp_path / f"{distribution.name}-0.0.0-py3-none-any.whl").touch()
    write_sdist(tmp_path, distribution, set())
    with pytest.raises(ValueError, match=r"holds .*0\.0\.0.*expected the sdist and a wheel of version"):
        find_packages(tmp_path, distribution)


def test_the_extra_takes_the_kernels_of_this_tree(root: Path):
    setup = ConfigParser()
    setup.read(root / "setup.cfg", encoding="utf8")
    requirement = Requirement(setup["options.extras_require"]["kernels"].strip())
    assert requirement.specifier.contains(version_of(KERNELS))


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
