"""The file of a benchmark's figures: made before anything is measured, and whole after every row."""

import json
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from spacy_electra.data.atomic import write_file


@dataclass(frozen=True)
class Report:
    """Facts, and the file that has them as JSON."""

    facts: dict[str, Any]
    path: Path | None  # None: of no file

    def add(self, name: str, fact: Any) -> None:
        """Append a fact to the list of this name, and write all."""
        self.facts.setdefault(name, []).append(fact)
        self.write()

    def write(self) -> None:
        """Put all into the file, which is the old one or the new, nothing between; links and devices stay such."""
        content = f"{self.text()}\n".encode()
        if self.path is None:
            return
        write_file(self.path, content)

    def text(self) -> str:
        return json.dumps(self.facts, indent=2)


def open_report(path: Path | None, facts: dict[str, Any]) -> Report:
    """A report that can be written. Raises ValueError where it cannot."""
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
    """Those of the packages that figures depend on."""
    return {package: version(package) for package in packages}
