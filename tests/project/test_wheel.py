"""The wheel in an environment of its own, away from the tree: entry points, packaged files, what starting costs."""

import ast
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
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
    shutil.copytree(
        ROOT / "spacy_electra", tree / "spacy_electra", ignore=shutil.ignore_patterns("__pycache__", "*.so")
    )
    for name in ("setup.cfg", "setup.py", "MANIFEST.in", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree / name)
    run(*pip, "wheel", "-q", "--no-deps", "--no-build-isolation", "--no-index", "-w", folder, tree, cwd=folder)
    (wheel,) = folder.glob("spacy_electra-*.whl")
    venv.create(folder / "env", with_pip=False)
    site = Path(sysconfig.get_path("purelib", vars={"base": str(folder / "env"), "platbase": str(folder / "env")}))
    run(*pip, "install", "-q", "--no-deps", "--no-index", "--target", site, wheel, cwd=folder)
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")  # its own .pth files are not read
    return folder / "env" / ("Scripts" if sys.platform == "win32" else "bin") / "python"


def test_the_wheel_is_what_is_imported(python: Path, tmp_path: Path):
    place = run(python, "-c", "import spacy_electra; print(spacy_electra.__file__)", cwd=tmp_path)
    assert str(ROOT) not in place


def test_entry_points_are_found(python: Path, tmp_path: Path):
    program = (
        "import spacy; r = spacy.registry;"
        "r.architectures.get('spacy-electra.Electra.v1'); r.architectures.get('spacy-electra.ElectraTransformer.v1');"
        "r.architectures.get('spacy-electra.Tok2VecElectra.v1'); r.callbacks.get('spacy-electra.forget_paths.v1');"
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
def test_kernels_are_packaged(python: Path, tmp_path: Path):
    folder = "from spacy_electra.model.inference.library import FOLDER"
    program = f"{folder}; print(len(list(FOLDER.glob('_kernels_*'))), FOLDER)"
    count, place = run(python, "-c", program, cwd=tmp_path).split()
    assert count == "1"
    assert str(ROOT) not in place


def test_a_blank_pipeline_imports_nothing_of_the_package_but_its_logger(python: Path, tmp_path: Path):
    program = (
        "import sys, spacy; spacy.blank('en');"
        "print([name for name in sys.modules if name.partition('.')[0] == 'spacy_electra'])"
    )
    loaded = set(ast.literal_eval(run(python, "-c", program, cwd=tmp_path)))
    assert loaded <= {"spacy_electra", "spacy_electra.training", "spacy_electra.training.tensorboard"}
