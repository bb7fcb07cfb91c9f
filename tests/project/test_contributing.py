"""What somebody outside relies on: documents, workflows and metadata name things that are there, and agree."""

import re
import subprocess
from configparser import ConfigParser
from pathlib import Path
from typing import Any

import pytest
import srsly
from packaging.requirements import Requirement

import spacy_electra
from spacy_electra.cli import COMMANDS

ROOT = Path(__file__).parents[2]
PACKAGE = Path(spacy_electra.__file__).parent
DOCUMENTS = ("CONTRIBUTING.md", "README.md", "kernels/README.md", "SECURITY.md", ".github/pull_request_template.md")
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
FORMS = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))
IN_TREE = (
    "spacy_electra/",
    "kernels/",
    "tests/",
    "scripts/",
    "docs/",
    "configs/",
    ".github/",
    "assets/",
    "benchmarks/",
)
Job = dict[str, Any]


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf8")


def read_yaml(path: Path) -> Any:
    return srsly.yaml_loads(path.read_text(encoding="utf8"))


@pytest.fixture(scope="module")
def setup() -> ConfigParser:
    parser = ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf8")
    return parser


def targets() -> set[str]:
    """The targets of the Makefile that a person may name."""
    return set(re.findall(r"^([a-z][a-z-]*):", read("Makefile"), flags=re.MULTILINE))


def jobs() -> list[tuple[str, Job]]:
    return [(f"{path.stem}.{name}", job) for path in WORKFLOWS for name, job in read_yaml(path)["jobs"].items()]


def commands() -> list[str]:
    """Every command line of the workflows, once for each value of a matrix that it names."""
    lines = []
    for _, job in jobs():
        rows = job.get("strategy", {}).get("matrix", {}).get("include", [])
        for step in job.get("steps", []):
            if run := step.get("run"):
                values = [row["target"] for row in rows] or [""]
                lines += [run.replace("${{ matrix.target }}", value) for value in values]
    return lines


def requirements(text: str) -> list[Requirement]:
    return [Requirement(line) for line in text.strip().splitlines()]


def pinned() -> dict[str, list[Requirement]]:
    """What constraints.txt says of each package, which may depend on the version of Python."""
    pins: dict[str, list[Requirement]] = {}
    for pin in requirements(read("constraints.txt")):
        pins.setdefault(_normalized(pin.name), []).append(pin)
    return pins


def _normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.parametrize("name", DOCUMENTS)
def test_documents_link_to_files_that_are_there(name: str):
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", read(name))
    assert all((ROOT / link).exists() for link in links if not link.startswith("https://")), links


@pytest.mark.parametrize("name", DOCUMENTS)
def test_documents_name_targets_of_make_that_are_there(name: str):
    named = set(re.findall(r"(?:`|^)make ([a-z-]+)", read(name), flags=re.MULTILINE))
    assert named <= targets()


def test_the_guide_names_files_and_commands_that_are_there():
    words = set(re.findall(r"`([^`\s]+)`", read("CONTRIBUTING.md")))
    paths = {word for word in words if word.startswith(IN_TREE) and "NAME" not in word}
    assert len(paths) > 8
    homes = (ROOT, PACKAGE.parent)  # two where the tests run on an installed package
    assert [path for path in sorted(paths) if not any((home / path).exists() for home in homes)] == []
    assert {"init-config"} <= words & COMMANDS.keys()


def test_the_guide_describes_every_target_that_checks():
    named = set(re.findall(r"`make ([a-z-]+)", read("CONTRIBUTING.md")))
    assert {name for name in targets() if re.match("test|lint|check|format", name)} <= named


def test_every_target_is_declared_phony():
    (phony,) = re.findall(r"^\.PHONY: (.*)$", read("Makefile"), flags=re.MULTILINE)
    assert set(phony.split()) == targets()


def test_workflows_run_nothing_but_targets_of_make_and_scripts_that_are_there():
    assert len(commands()) >= 6
    for line in commands():
        program, first, *_ = line.split()
        assert (program == "make" and first in targets()) or (program == "python" and (ROOT / first).is_file()), line


@pytest.mark.parametrize(("name", "job"), jobs(), ids=[name for name, _ in jobs()])
def test_actions_are_pinned_by_major_version_and_jobs_end(name: str, job: Job):
    if "uses" in job:  # another file of the project
        assert (ROOT / job["uses"]).is_file()
        return
    assert job["timeout-minutes"] <= 180
    actions = [step["uses"] for step in job["steps"] if "uses" in step]
    assert all(re.fullmatch(r"[\w-]+/[\w-]+@(release/)?v\d+", action) for action in actions), actions


def test_only_the_job_that_publishes_may_more_than_read():
    assert all(read_yaml(path)["permissions"] == {"contents": "read"} for path in WORKFLOWS)
    allowed = {name: job["permissions"] for name, job in jobs() if "permissions" in job}
    assert allowed == {"release.publish": {"id-token": "write"}}


def test_nothing_is_published_before_the_tag_and_the_packages_are_checked():
    by_name = dict(jobs())
    assert by_name["release.publish"]["needs"] == "installed"
    assert by_name["release.installed"]["needs"] == "packages"
    assert by_name["release.packages"]["needs"] == "check"


def test_every_python_that_the_metadata_claims_is_tested_on_every_system(setup: ConfigParser):
    matrix = dict(jobs())["tests.installed"]["strategy"]["matrix"]
    claimed = re.findall(r"Python :: (3\.\d+)", setup["metadata"]["classifiers"])
    assert set(claimed) <= set(matrix["python"])
    assert setup["options"]["python_requires"] == f">={matrix['python'][0]}"
    assert {name.split("-")[0] for name in matrix["os"]} == {"ubuntu", "macos", "windows"}


@pytest.mark.parametrize("extra", ["", "test", "zstd", "release"])
def test_every_requirement_has_a_pin_that_it_allows(setup: ConfigParser, extra: str):
    section = setup["options.extras_require"][extra] if extra else setup["options"]["install_requires"]
    pins = pinned()
    for requirement in requirements(section):
        versions = [str(next(iter(pin.specifier)).version) for pin in pins[_normalized(requirement.name)]]
        assert all(requirement.specifier.contains(version) for version in versions), (str(requirement), versions)


def test_the_range_of_transformers_is_left_to_spacy_transformers(setup: ConfigParser):
    (bound,) = [
        each for each in requirements(setup["options"]["install_requires"]) if _normalized(each.name) == "transformers"
    ]
    assert [each.operator for each in bound.specifier] == [">="]


def test_hooks_before_a_commit_use_the_versions_of_the_tests(setup: ConfigParser):
    (ruff,) = [line for line in setup["options.extras_require"]["test"].split() if line.startswith("ruff==")]
    hooks = [hook for repo in read_yaml(ROOT / ".pre-commit-config.yaml")["repos"] for hook in repo["hooks"]]
    assert [hook["id"] for hook in hooks] == ["ruff-check", "ruff-format", "mypy", "clang-format"]
    assert [hook["additional_dependencies"] for hook in hooks if hook["id"].startswith("ruff")] == [[ruff], [ruff]]


def test_the_citation_is_of_this_version_and_names_the_paper(setup: ConfigParser):
    cited = read_yaml(ROOT / "CITATION.cff")
    assert cited["version"] == spacy_electra.__version__
    assert cited["license"] == setup["metadata"]["license"]
    assert [author["name"] for author in cited["authors"]] == [setup["metadata"]["author"]]
    assert cited["references"][0]["url"] in setup["metadata"]["project_urls"]


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a checkout")
def test_files_with_checksums_are_checked_out_byte_for_byte():
    names = ["assets/electra-en/discriminator/vocab.txt", "assets/electra-en/discriminator/model.safetensors"]
    command = ["git", "check-attr", "text", "--", *names]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert told.splitlines() == [f"{name}: text: unset" for name in names]


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_forms_ask_with_ids_of_their_own(path: Path):
    form = read_yaml(path)
    if path.stem == "config":
        assert form == {"blank_issues_enabled": True}
        return
    assert {"name", "description", "body"} <= form.keys()
    ids = [field["id"] for field in form["body"]]
    assert len(set(ids)) == len(ids) > 1
    assert all(field["attributes"]["label"] for field in form["body"])


def test_the_form_for_bugs_asks_for_what_the_command_line_prints():
    described = " ".join(field["attributes"].get("description", "") for field in read_yaml(FORMS[0])["body"])
    assert FORMS[0].stem == "bug"
    assert "python -m spacy electra --version" in described
