"""Open a packaged pipeline as a user would, away from the project's folders, and see that it answers.

Unpacks an sdist, or takes a package's folder, into a temporary folder; nothing is installed.
Example: python scripts/check_pipeline.py packages/en_software-0.1.0/dist/en_software-0.1.0.tar.gz
"""

import os
import shutil
import tarfile
import tempfile
from collections.abc import Collection
from pathlib import Path

import spacy
import typer
from spacy.tokens import Doc
from wasabi import msg

from spacy_electra.cli.errors import clear_errors

TEXT = "After the update to Borealis 2.1, read_csv raises a KeyError on Windows whenever settings.toml is missing."


@clear_errors
def main(
    package: Path = typer.Argument(..., help="The .tar.gz or the folder of a package"),
    text: str = typer.Option(TEXT, help="What to read"),
    output: Path | None = typer.Option(None, help="File for what was found"),
) -> None:
    """Load a packaged pipeline and print entities, category and parse of a text; fails where one of them is empty."""
    home = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        unpack(package, Path(folder))
        os.chdir(folder)
        try:
            nlp = spacy.load(find_pipeline(Path(folder)))
            answer = describe(nlp(text), nlp.pipe_names)
        finally:
            os.chdir(home)
    print(f"\n{text}\n\n{answer}\n")
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(f"{text}\n\n{answer}\n", encoding="utf8")
    msg.good(f"{package} loads and answers")


def unpack(package: Path, folder: Path) -> None:
    """Put the files of a package into `folder`. Raises FileNotFoundError where it is neither archive nor folder."""
    if package.is_dir():
        shutil.copytree(package, folder / package.name)
    elif package.is_file() and tarfile.is_tarfile(package):
        with tarfile.open(package) as archive:
            archive.extractall(folder, filter="data")
    else:
        raise FileNotFoundError(f"there is no package {package}: give a .tar.gz that `package` has made, or a folder.")


def find_pipeline(folder: Path) -> Path:
    """The folder of the pipeline itself inside a package. Raises ValueError where there is none, or several."""
    found = sorted(path.parent for path in folder.rglob("config.cfg") if (path.parent / "meta.json").is_file())
    if len(found) != 1:
        raise ValueError(f"expected one pipeline with config.cfg and meta.json in the package, but got {len(found)}.")
    return found[0]


def describe(doc: Doc, pipes: Collection[str]) -> str:
    """What each of the pipes has to say of a text, in words. Raises ValueError that says which of them says nothing."""
    category = max(doc.cats, key=lambda name: doc.cats[name]) if doc.cats else ""
    answers = {
        "ner": ("entities", ", ".join(f"{entity.text} ({entity.label_})" for entity in doc.ents)),
        "textcat": ("category", category),
        "parser": ("parse", " ".join(f"{token.text}/{token.dep_}" for token in doc if token.dep_)),
    }
    asked = [answers[name] for name in answers if name in pipes]
    if empty := [what for what, answer in asked if not answer]:
        raise ValueError(f"the pipeline gave no {' and no '.join(empty)} for {doc.text!r}.")
    return "\n".join(f"{what}: {answer}" for what, answer in asked)


if __name__ == "__main__":
    typer.run(main)
