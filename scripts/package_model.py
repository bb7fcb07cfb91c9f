"""Package a pretrained model as a wheel, so that its name is enough wherever a model is asked for. Needs no network.

Example: python scripts/package_model.py assets/electra-en dist --name spacy-electra-en --version 0.1.0
"""

import json
import shutil
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory

import typer
from setuptools import build_meta
from spacy.util import working_dir
from wasabi import msg

import spacy_electra
from spacy_electra.cli.errors import clear_errors
from spacy_electra.model.files.hub import ENTRY_POINTS, find_discriminator, read_config

PYPROJECT = """\
[build-system]
requires = ["setuptools>=70"]
build-backend = "setuptools.build_meta"

[project]
name = "{name}"
version = "{version}"
description = {description}
readme = "README.md"
license = {{text = {license}}}
requires-python = ">=3.10"
dependencies = ["spacy-electra>={needs}"]

[project.entry-points.{group}]
{module} = "{module}"

[tool.setuptools]
packages = ["{module}"]
license-files = ["LICENSE*", "NOTICE*"]

[tool.setuptools.package-data]
{module} = ["**/*"]
"""


@clear_errors
def main(
    model: Path = typer.Argument(..., help="Folder of a model, or of its discriminator/ and generator/"),
    output: Path = typer.Argument(..., help="Folder for the wheel"),
    name: str = typer.Option(..., help="Name of the package"),
    version: str = typer.Option(..., help="Version of the package"),
    license: str = typer.Option("see the model's card", help="Licence of the weights"),
) -> None:
    """Write a wheel that holds the model and its card."""
    read_config(find_discriminator(str(model)))
    module = name.replace("-", "_")
    card = (model / "README.md").read_text(encoding="utf8") if (model / "README.md").is_file() else f"# {name}\n"
    output.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as scratch:
        folder = Path(scratch)
        shutil.copytree(model, folder / module)
        (folder / module / "__init__.py").write_text(f'__version__ = "{version}"\n', encoding="utf8")
        (folder / "README.md").write_text(card, encoding="utf8")
        for path in (*model.glob("LICENSE*"), *model.glob("NOTICE*")):
            shutil.copy(path, folder)
        fields = {
            "name": name,
            "version": version,
            "module": module,
            "group": ENTRY_POINTS,
            "needs": spacy_electra.__version__,
            "description": json.dumps(card.splitlines()[0].lstrip("# ")),
            "license": json.dumps(license),
        }
        (folder / "pyproject.toml").write_text(PYPROJECT.format(**fields), encoding="utf8")
        target = str(output.resolve())
        with working_dir(folder), redirect_stdout(StringIO()):  # setuptools names every file
            wheel: str = build_meta.build_wheel(target)
    msg.good(f"{output / wheel} ({(output / wheel).stat().st_size / 1e6:.1f} MB)")


if __name__ == "__main__":
    typer.run(main)
