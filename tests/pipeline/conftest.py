"""A pretrained ELECTRA of 2 layers, made on the spot by Hugging Face's own classes, and pipelines that use it."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import spacy
import torch
from spacy.language import Language
from spacy.training import Example
from transformers import ElectraConfig, ElectraModel

from spacy_electra.data.tokenizer.wordpiece import train_wordpiece
from spacy_electra.model.inference.backend import Machine, machine_of
from spacy_electra.pipeline.architectures import build_electra_transformer, build_tok2vec_electra

spacy.registry.architectures.register("spacy-electra.ElectraTransformer.v2", func=build_electra_transformer)
spacy.registry.architectures.register("spacy-electra.Tok2VecElectra.v2", func=build_tok2vec_electra)
torch.set_num_threads(1)

POSITIONS = 40
SENTENCES = [
    "The encoder reads pieces, not words.",
    "Unbelievably, tokenizers disagree: it's a well-known problem!",
    "A cat sat on the mat.",
    "He paid $3.50 for (two) apples in New York.",
]
LISTENER = {
    "@architectures": "spacy-transformers.TransformerListener.v1",
    "grad_factor": 1.0,
    "pooling": {"@layers": "reduce_mean.v1"},
}
TAGS = ["LONG", "SHORT"]


@pytest.fixture(scope="session")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `pretrain` exports: config.json, model.safetensors and the tokenizer's files."""
    return _saved(tmp_path_factory.mktemp("discriminator"), width=32, feed_forward=48)


@pytest.fixture(scope="session")
def wide_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, of a shape that the kernels of predictions take."""
    return _saved(tmp_path_factory.mktemp("wide"), width=64, feed_forward=128)


def _saved(folder: Path, *, width: int, feed_forward: int) -> Path:
    tokenizer = train_wordpiece(SENTENCES, vocab_size=160, cased=False, strip_accents=None, min_frequency=1)
    tokenizer.save(folder, model_max_length=POSITIONS)
    torch.manual_seed(1)
    config = ElectraConfig(
        vocab_size=tokenizer.size,
        embedding_size=16,
        hidden_size=width,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=feed_forward,
        max_position_embeddings=POSITIONS,
        initializer_range=6.4 / width,
    )
    ElectraModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def make_nlp(model_dir: Path) -> Callable[..., Language]:
    """Builds and initializes transformer + tagger; `settings` go to the architecture."""
    fixed = {"name": str(model_dir), "dropout": 0.0, "precision": "fp32"}  # what "auto" means depends on the machine

    def make(**settings: Any) -> Language:
        spacy.util.fix_random_seed(0)
        nlp = spacy.blank("xx")
        model = {"@architectures": "spacy-electra.ElectraTransformer.v2", **fixed, **settings}
        nlp.add_pipe("transformer", config={"model": model})
        tagger = {"@architectures": "spacy.Tagger.v2", "tok2vec": LISTENER}
        nlp.add_pipe("tagger", config={"model": tagger})
        nlp.initialize(lambda: examples_of(nlp))
        return nlp

    return make


@pytest.fixture
def without_amx(assume: Callable[[Machine], None]) -> None:
    """Let "auto" and "bf16" predict by the C kernels, where there are some, though the processor may have AMX."""
    machine = replace(machine_of(torch.device("cpu")), amx=False)
    assume(machine)


@pytest.fixture
def nlp(make_nlp: Callable[..., Language]) -> Language:
    return make_nlp()


def examples_of(nlp: Language) -> list[Example]:
    """A tagger's task: which words are longer than three letters."""
    docs = [nlp.make_doc(text) for text in SENTENCES]
    return [Example.from_dict(doc, {"tags": [TAGS[len(t) <= 3] for t in doc]}) for doc in docs]


@pytest.fixture(name="examples_of", scope="session")
def examples_of_fixture() -> Callable[[Language], list[Example]]:
    return examples_of
