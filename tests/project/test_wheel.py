"""The wheel in an environment of its own, away from the tree: entry points, packaged files, what starting costs."""

import ast
import gzip
import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = "the config of the parser is read before the tokens of each sentence are cut into pieces"
COMMANDS = ["init-config", "train-tokenizer", "tokenize", "pretrain"]
pytestmark = pytest.mark.slow


def run(*command: object, cwd: Path) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}  # it may name the tree
    done = subprocess.run([str(part) for part in command], cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a fresh environment: the wheel installed, everything else borrowed from this one."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = (sys.executable, "-m", "pip")
    tree = folder / "tree"  # a copy, for building leaves an egg-info behind that would hide the entry points
    shutil.copytree(ROOT / "spacy_electra", tree / "spacy_electra", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.cfg", "MANIFEST.in", "pyproject.toml", "README.md", "LICENSE", "NOTICE"):
        shutil.copy(ROOT / name, tree / name)
    run(*pip, "wheel", "-q", "--no-deps", "--no-build-isolation", "--no-index", "-w", folder, tree, cwd=folder)
    (wheel,) = folder.glob("spacy_electra-*-py3-none-any.whl")
    venv.create(folder / "env", with_pip=False)
    site = Path(sysconfig.get_path("purelib", vars={"base": str(folder / "env"), "platbase": str(folder / "env")}))
    run(*pip, "install", "-q", "--no-deps", "--no-index", "--target", site, wheel, cwd=folder)
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")  # its own .pth files are not read
    return folder / "env" / ("Scripts" if sys.platform == "win32" else "bin") / "python"


def test_the_wheel_is_what_is_imported(python: Path, tmp_path: Path):
    place = run(python, "-c", "import spacy_electra; print(spacy_electra.__file__)", cwd=tmp_path)
    assert str(ROOT) not in place


def test_licence_and_notice_are_packaged(python: Path, tmp_path: Path):
    program = (
        "from importlib.metadata import distribution; package = distribution('spacy-electra');"
        "print(*(package.read_text(f'licenses/{name}') for name in ('LICENSE', 'NOTICE')), sep='')"
    )
    told = run(python, "-c", program, cwd=tmp_path)
    assert told.strip() == "".join((ROOT / name).read_text(encoding="utf8") for name in ("LICENSE", "NOTICE")).strip()


def test_entry_points_are_found(python: Path, tmp_path: Path):
    program = (
        "import spacy; r = spacy.registry;"
        "r.architectures.get('spacy-electra.Electra.v1'); r.architectures.get('spacy-electra.ElectraTransformer.v2');"
        "r.architectures.get('spacy-electra.Tok2VecElectra.v2'); r.callbacks.get('spacy-electra.forget_paths.v1');"
        "r.callbacks.get('spacy-electra.torch_products.v1');"
        "r.optimizers.get('spacy-electra.AdamW.v1'); r.loggers.get('spacy-electra.TensorBoardLogger.v1');"
        "print('found')"
    )
    assert run(python, "-c", program, cwd=tmp_path).strip() == "found"


def test_templates_are_packaged(python: Path, tmp_path: Path):
    run(python, "-m", "spacy", "electra", "init-config", "out", "--size", "mini", "--pipeline", "ner", cwd=tmp_path)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"pretrain.cfg", "pipeline.cfg"}


@pytest.mark.skipif(sys.platform != "linux" or platform.machine() != "x86_64", reason="kernels are for Linux on x86-64")
@pytest.mark.skipif(shutil.which("cc") is None, reason="no compiler")
def test_the_kernels_have_a_wheel_for_every_python_that_is_found_where_it_is_installed(python: Path, tmp_path: Path):
    tree, site = tmp_path / "tree", tmp_path / "site"
    shutil.copytree(ROOT / "kernels", tree, ignore=shutil.ignore_patterns("__pycache__", "*.so", "build", "*.egg-info"))
    pip = (sys.executable, "-m", "pip")
    run(*pip, "wheel", "-q", "--no-deps", "--no-build-isolation", "--no-index", "-w", tmp_path, tree, cwd=tmp_path)
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.name.endswith("-py3-none-linux_x86_64.whl")
    run(*pip, "install", "-q", "--no-deps", "--no-index", "--target", site, wheel, cwd=tmp_path)
    program = (
        f"import sys; sys.path.insert(0, {str(site)!r});"
        "from spacy_electra.model.inference.library import find_library, load_error;"
        "print(find_library(), load_error())"
    )
    assert run(python, "-c", program, cwd=tmp_path).split() == [
        str(site / "spacy_electra_kernels" / "libspacy_electra_kernels.so"),
        "None",
    ]


def test_without_the_kernels_the_reason_says_what_installs_them(python: Path, tmp_path: Path):
    program = (
        "import sys; sys.modules['spacy_electra_kernels'] = None;"
        "from spacy_electra.model.inference.library import load_error; print(load_error())"
    )
    told = run(python, "-c", program, cwd=tmp_path)
    assert "spacy-electra-kernels is not installed" in told or "for Linux on x86-64" in told


def first_commands() -> list[list[str]]:
    """This package's commands in the README's part on a user's own text."""
    block = (ROOT / "README.md").read_text(encoding="utf8").split("## On your own text", 1)[1].split("```")[1]
    return [shlex.split(line, comments=True) for line in block.splitlines() if "-m spacy electra" in line]


def test_the_first_commands_of_the_readme_run_in_an_empty_folder(python: Path, tmp_path: Path):
    """With the smaller of the shipped starts and two steps of training."""
    words = TEXT.split()
    with gzip.open(tmp_path / "notes.jsonl.gz", "wt", encoding="utf8") as file:
        file.writelines(json.dumps({"text": " ".join(words[i % 7 :] * 20) + "."}) + "\n" for i in range(60))
    small = {"assets/electra-en": str(ROOT / "assets" / "electra-tiny")}
    for _, *arguments in first_commands():
        few = ["--training.max_steps", "2"] if "pretrain" in arguments else []
        run(python, *(small.get(argument, argument) for argument in arguments), *few, cwd=tmp_path)
    assert [arguments[4] for arguments in first_commands()] == [
        "init-config",
        "train-tokenizer",
        "tokenize",
        "pretrain",
    ]
    summary = json.loads((tmp_path / "training/pretrain/model-last/summary.json").read_text(encoding="utf8"))
    assert summary["step"] == 2


def test_a_blank_pipeline_imports_nothing_of_the_package_but_its_logger(python: Path, tmp_path: Path):
    program = (
        "import sys, spacy; spacy.blank('en');"
        "print([name for name in sys.modules if name.partition('.')[0] == 'spacy_electra'])"
    )
    loaded = set(ast.literal_eval(run(python, "-c", program, cwd=tmp_path)))
    assert loaded <= {"spacy_electra", "spacy_electra.training", "spacy_electra.training.tensorboard"}
