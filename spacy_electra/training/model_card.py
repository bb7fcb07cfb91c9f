"""The model card beside an exported model: training data, budget and scores."""

from pathlib import Path
from typing import Any

from spacy_electra.training.state import State

CARD = """# ELECTRA discriminator and generator

Pretrained by replaced-token detection (Clark et al. 2020) with spacy-electra {version}.
`discriminator/` is what a pipeline uses; `generator/` is needed only to continue pretraining.
"""
MASKED_CARD = """# Masked language model

Pretrained by guessing hidden pieces (Devlin et al. 2019) with spacy-electra {version}.
`discriminator/` is what a pipeline uses: an ELECTRA encoder that was trained without a generator, for comparison.
"""
BODY = """
## Use

```ini
[components.transformer]
factory = "transformer"
[components.transformer.model]
@architectures = "spacy-electra.ElectraTransformer.v2"
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


def write_card(path: Path, *, description: dict[str, Any], state: State, scores: dict[str, float]) -> None:
    """Write the card to `path`.

    description: rows of the training table, `version` and `objective` among them.
    state: at the end of training.
    scores: on the dev set.
    """
    rows = {key: value for key, value in description.items() if key != "version"}
    rows["steps"] = f"{state.step:,}"
    rows["rows seen"] = f"{state.row:,}"
    rows["minutes"] = f"{state.seconds / 60:.1f}"
    figures = {name: f"{value:.4f}" for name, value in scores.items()}
    head = MASKED_CARD if description["objective"] == "mlm" else CARD
    text = head.format(version=description["version"]) + BODY.format(training=_table(rows), scores=_table(figures))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf8", newline="\n")


def _table(rows: dict[str, Any]) -> str:
    return "\n".join(f"| {key} | {value} |" for key, value in rows.items())
