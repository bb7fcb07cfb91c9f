"""The model card beside an exported model: what it was trained on, how long, and how well it does."""

from pathlib import Path
from typing import Any

from spacy_electra.training.loop import Facts

CARD = """# ELECTRA discriminator and generator

Pretrained by replaced-token detection (Clark et al. 2020) with spacy-electra {version}.
`discriminator/` is what a pipeline uses; `generator/` is needed only to continue pretraining.

## Use

```ini
[components.transformer]
factory = "transformer"
[components.transformer.model]
@architectures = "spacy-electra.ElectraTransformer.v1"
name = "path/to/discriminator"
```

## Training

| | |
|---|---|
{training}

## Held-out scores

| | |
|---|---|
{scores}
"""


def write_card(path: Path, *, description: dict[str, Any], facts: Facts) -> None:
    """Write the card to `path`. description: rows of the training table, `version` among them."""
    rows = {key: value for key, value in description.items() if key != "version"}
    rows["steps"] = f"{facts.state.step:,}"
    rows["rows seen"] = f"{facts.state.row:,} (epoch {facts.epoch})"
    rows["minutes"] = f"{facts.state.seconds / 60:.1f}"
    scores = {name: f"{value:.4f}" for name, value in (facts.scores or {}).items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    text = CARD.format(version=description["version"], training=_table(rows), scores=_table(scores))
    path.write_text(text, encoding="utf8", newline="\n")


def _table(rows: dict[str, Any]) -> str:
    return "\n".join(f"| {key} | {value} |" for key, value in rows.items())
