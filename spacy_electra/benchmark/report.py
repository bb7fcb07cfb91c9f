"""The JSON file of a benchmark's results: written before anything is measured, and again after every row."""

import json
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from spacy_electra.data.atomic import write_file


@dataclass(frozen=True)
class Report:
    """The results of a benchmark, and the JSON file that they are written to."""

    facts: dict[str, Any]
    path: Path | None  # None: of no file

    def add(self, name: str, fact: Any) -> None:
        """Append a fact to the list of this name, and write the file."""
        self.facts.setdefault(name, []).append(fact)
        self.write()

    def write(self) -> None:
        """Write all facts to the file, if there is one, as `write_file` does."""
        content = f"{self.text()}\n".encode()
        if self.path is None:
            return
        write_file(self.path, content)

    def text(self) -> str:
        """The facts as JSON."""
        return json.dumps(self.facts, indent=2)


def open_report(path: Path | None, facts: dict[str, Any]) -> Report:
    """Make a report, and write its file once. Raises ValueError if the file cannot be written.

    path: of the JSON file; None for no file.
    facts: the first ones.
    """
    report = Report(facts, path)
    if path is None:
        return report
    try:
        if path.is_dir():
            raise IsADirectoryError(None, "is a folder")
        path.parent.mkdir(parents=True, exist_ok=True)
        report.write()
    except OSError as error:
        raise ValueError(f"--json: {path} cannot be written ({error.strerror}): give the path of a file.") from error
    return report


def versions(*packages: str) -> dict[str, str]:
    """Installed versions of packages, by name."""
    return {package: version(package) for package in packages}
