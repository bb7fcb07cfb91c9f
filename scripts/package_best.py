"""Package the best run of a variant, by its dev scores, as an sdist that `pip install` takes. Needs no network.

`spacy package --build sdist` asks for an isolated environment, which is filled from the network where the `build`
package is installed; here setuptools builds in the environment that is there.
Example: python scripts/package_best.py training/software/runs packages --variant pretrained --name software
"""

from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import srsly
import typer
from confection import Config
from runs import read_runs
from setuptools import build_meta
from spacy.cli.package import package
from spacy.util import working_dir
from wasabi import msg

from spacy_electra.cli.errors import clear_errors


@clear_errors
def main(
    runs: Path = typer.Argument(..., help="Folder that train_runs.py has written"),
    output: Path = typer.Argument(..., help="Folder for the package"),
    variant: str = typer.Option("pretrained", help="Which of the variants to package"),
    name: str = typer.Option(..., help="Name of the package, without the language"),
    version: str = typer.Option("0.0.0", help="Version of the package"),
) -> None:
    """Package the run with the highest dev score."""
    candidates = [run for run in read_runs(runs) if run.variant == variant]
    if not candidates:
        raise ValueError(f"there is no run of a variant {variant!r} in {runs}.")
    best = max(candidates, key=lambda run: dev_score(run.folder(runs) / "model-best"))
    folder = best.folder(runs) / "model-best"
    output.mkdir(parents=True, exist_ok=True)
    package(folder, output, name=name, version=version, create_sdist=False, force=True)
    lang = srsly.read_json(folder / "meta.json")["lang"]
    sdist = build_sdist(output / f"{lang}_{name}-{version}")
    msg.good(f"Packaged {variant} with seed {best.seed}: {sdist} ({sdist.stat().st_size / 1e6:.1f} MB)")


def dev_score(model: Path) -> float:
    """The weighted score by which `spacy train` has chosen the model."""
    scores: dict[str, Any] = srsly.read_json(model / "meta.json")["performance"]
    weights: dict[str, float | None] = Config().from_disk(model / "config.cfg")["training"]["score_weights"]
    return sum(weight * (scores.get(key) or 0.0) for key, weight in weights.items() if weight)


def build_sdist(folder: Path) -> Path:
    """Make dist/*.tar.gz in a package's folder, in this environment. Gives its path."""
    dist = folder.resolve() / "dist"
    dist.mkdir(exist_ok=True)
    with working_dir(folder), redirect_stdout(StringIO()):  # setuptools names every file
        made: str = build_meta.build_sdist(str(dist))
    return folder / "dist" / made


if __name__ == "__main__":
    typer.run(main)
