"""Check that a commit may be released under a tag: one version everywhere, a finished changelog, an address.

Example: python scripts/check_release.py v0.1.0
"""

from configparser import ConfigParser
from pathlib import Path

import srsly
import typer
from wasabi import msg

import spacy_electra
from spacy_electra.cli.errors import clear_errors

ROOT = Path(__file__).parents[1]


@clear_errors
def main(
    tag: str = typer.Argument(..., help="Name of the tag, v and the version"),
    root: Path = typer.Option(ROOT, help="Folder of the project"),
) -> None:
    """Fail with a message for each thing that is to be done before the tag is set."""
    if faults := find_faults(tag, spacy_electra.__version__, root):
        raise ValueError("\n".join((f"{tag} cannot be released yet:", *faults)))
    msg.good(f"{tag} may be released")


def find_faults(tag: str, version: str, root: Path) -> list[str]:
    """What keeps the project in `root`, whose package has this version, from being released under the tag."""
    faults = []
    if tag != f"v{version}":
        faults.append(f"the tag is {tag}, but __version__ in spacy_electra/__init__.py is {version}.")
    changes = (root / "CHANGELOG.md").read_text(encoding="utf8").splitlines()
    newest = next((line for line in changes if line.startswith("## ")), "")
    if newest.split() != ["##", version]:
        faults.append(f"the newest heading of CHANGELOG.md is {newest!r}, expected '## {version}'.")
    cited = srsly.yaml_loads((root / "CITATION.cff").read_text(encoding="utf8"))
    if cited.get("version") != version:
        faults.append(f"CITATION.cff has version {cited.get('version')}, expected {version}.")
    if "date-released" not in cited:
        faults.append("CITATION.cff has no date-released: add today's date, YYYY-MM-DD.")
    setup = ConfigParser()
    setup.read(root / "setup.cfg", encoding="utf8")
    if "Source =" not in setup["metadata"].get("project_urls", ""):
        faults.append(
            "setup.cfg has no 'Source = ADDRESS' in project_urls, so that nobody finds the code from its package."
        )
    return faults


if __name__ == "__main__":
    typer.run(main)
