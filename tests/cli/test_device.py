"""Which device a run takes."""

import pytest
import torch

from spacy_electra.cli.device import choose_device


def test_the_card_of_a_run_is_the_current_one(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[str, object]] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", lambda number: told.append(("device", number)))
    monkeypatch.setattr(
        torch.cuda, "set_per_process_memory_fraction", lambda share, number: told.append(("share", (share, number)))
    )
    assert choose_device(1, memory_fraction=0.5) == torch.device("cuda", 1)
    assert told == [("device", 1), ("share", (0.5, 1))]
