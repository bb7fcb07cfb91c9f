"""scripts/mean_with_start.py: half-way between a start and what a run made of it, whatever the vocabulary."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from mean_with_start import main
from safetensors.torch import load_file, save_file

from spacy_electra.cli.halves import read_halves, write_halves
from spacy_electra.data.tokenizer.pruning import prune_vocabulary

START = Path(__file__).parents[2] / "assets" / "electra-tiny"
WORDS = "electra.embeddings.word_embeddings.weight"


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "discriminator" / "model.safetensors")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run that made every weight of the start one larger."""
    last = tmp_path / "run" / "model-last"
    write_halves(read_halves(str(START)), last)
    for half in ("discriminator", "generator"):
        path = last / half / "model.safetensors"
        save_file({name: weight + 1 for name, weight in load_file(path).items()}, path, metadata={"format": "pt"})
    return tmp_path / "run"


def test_the_mean_is_half_way(run: Path, tmp_path: Path) -> None:
    main(run, tmp_path / "mean", start=str(START))
    before, after = weights(run / "model-last"), weights(tmp_path / "mean")
    assert before.keys() == after.keys()
    assert all(torch.allclose(after[name], before[name] - 0.5, atol=1e-6) for name in before)


def test_a_run_from_nothing_is_taken_as_it_is(run: Path, tmp_path: Path) -> None:
    main(run, tmp_path / "mean", start="null")
    before, after = weights(run / "model-last"), weights(tmp_path / "mean")
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_a_start_of_another_vocabulary_takes_that_of_the_run(run: Path, tmp_path: Path) -> None:
    whole = read_halves(str(run / "model-last"))
    counts = np.arange(whole.tokenizer.size, 0, -1)
    fewer = prune_vocabulary(whole.tokenizer, counts, vocab_size=6_000)
    shutil.rmtree(run)
    write_halves(whole.with_tokenizer(fewer), run / "model-last")
    main(run, tmp_path / "mean", start=str(START))
    before, after = weights(run / "model-last"), weights(tmp_path / "mean")
    assert after[WORDS].shape == before[WORDS].shape == (fewer.size, before[WORDS].shape[1])
    assert torch.allclose(after[WORDS], before[WORDS] - 0.5, atol=1e-6)
