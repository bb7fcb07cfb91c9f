"""Write Hugging Face's ELECTRA directories: `ElectraModel`, `ElectraForMaskedLM`, `ElectraForPreTraining`.

Writes config.json, model.safetensors and tokenizer files, without the transformers library. `init/pretrained.py` reads
them.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from spacy_electra.data.atomic_folder import replaced_folder
from spacy_electra.data.tokenizer.files import STALE
from spacy_electra.data.tokenizer.wordpiece import WordPiece
from spacy_electra.model.files.hub import CONFIG, ONNX
from spacy_electra.model.files.names import (
    ParameterNames,
    body_names,
    embedding_names,
    huggingface_config,
    is_encoder,
    masked_head_names,
    replaced_head_names,
)
from spacy_electra.model.files.saved_model import VOCABULARY_LONG, SavedModel, check_there, check_vocabulary
from spacy_electra.model.files.tensor_files import write_tensors
from spacy_electra.model.files.weight_files import INDEX, OLD_INDEX, OLD_WEIGHTS, WEIGHTS
from spacy_electra.model.network.electra import Electra, MaskedLanguageModel
from spacy_electra.model.network.encoder import Encoder, EncoderShape

PREFIX = "electra."  # before the encoder's names, where a head stands beside it


def save_discriminator(model: Electra | MaskedLanguageModel, tokenizer: WordPiece, out_dir: str | Path) -> None:
    """Write the model that pipelines are built on, as an `ElectraForPreTraining` directory.

    The encoder of the masked-language-model objective has another head and becomes an `ElectraForMaskedLM`.

    This function and the two below write all files or none, in float32, with the vocabulary cut to the tokenizer's
    size. Missing folders are made. Raises OSError if the directory cannot be written, ValueError if the tokenizer has
    pieces that the model lacks.
    """
    with replaced_model(Path(out_dir)) as folder:
        write_discriminator(model, tokenizer, folder)


def save_generator(model: Electra, tokenizer: WordPiece, out_dir: str | Path) -> None:
    """Write the generator, with the embeddings it shares, as an `ElectraForMaskedLM` directory."""
    with replaced_model(Path(out_dir)) as folder:
        write_generator(model, tokenizer, folder)


def save_encoder(encoder: Encoder, tokenizer: WordPiece, out_dir: str | Path) -> None:
    """Write an encoder without a head as an `ElectraModel` directory."""
    with replaced_model(Path(out_dir)) as folder:
        write_encoder(encoder, tokenizer, folder)


@contextmanager
def replaced_model(out_dir: Path) -> Iterator[Path]:
    """A folder whose model replaces that of `out_dir` when the block ends; other files stay."""
    gone = (CONFIG, WEIGHTS, INDEX, OLD_WEIGHTS, OLD_INDEX, ONNX, *STALE)
    with replaced_folder(out_dir, last=CONFIG, gone=gone) as folder:
        yield folder


def write_discriminator(model: Electra | MaskedLanguageModel, tokenizer: WordPiece, folder: Path) -> None:
    """Write the files of `save_discriminator` into a folder that nobody reads yet."""
    names = embedding_names() | body_names(model.shape, "discriminator")
    if isinstance(model, Electra):
        _write(model, names | replaced_head_names(), model.shape, "ElectraForPreTraining", tokenizer, folder)
    else:
        _write(model, names | masked_head_names(), model.shape, "ElectraForMaskedLM", tokenizer, folder)


def write_generator(model: Electra, tokenizer: WordPiece, folder: Path) -> None:
    """Write the files of `save_generator` into a folder that nobody reads yet."""
    names = embedding_names() | body_names(model.generator_shape, model.generator_name) | masked_head_names()
    _write(model, names, model.generator_shape, "ElectraForMaskedLM", tokenizer, folder)


def write_encoder(encoder: Encoder, tokenizer: WordPiece, folder: Path) -> None:
    """Write the files of `save_encoder` into a folder that nobody reads yet."""
    names = embedding_names() | body_names(encoder.shape, "body")
    _write(encoder, names, encoder.shape, "ElectraModel", tokenizer, folder)


def write_saved(saved: SavedModel, tokenizer: WordPiece, folder: Path) -> None:
    """Write a saved model, with its heads, as an ELECTRA model into a folder that nobody reads yet."""
    names = embedding_names() | body_names(saved.shape, "body")
    heads = {"ElectraForPreTraining": replaced_head_names(), "ElectraForMaskedLM": masked_head_names()}
    kind = next((kind for kind, head in heads.items() if saved.has(head)), "ElectraModel")
    check_there(names | heads.get(kind, {}), saved)
    prefix = "" if kind == "ElectraModel" else PREFIX
    weights = {prefix + name: saved.weights[name] for theirs in names.values() for name in theirs}
    weights |= {name: saved.weights[name] for theirs in heads.get(kind, {}).values() for name in theirs}
    _write_files(weights, saved.shape, kind, tokenizer, folder)


def _write(
    model: nn.Module, names: ParameterNames, shape: EncoderShape, architecture: str, tokenizer: WordPiece, folder: Path
) -> None:
    check_vocabulary(tokenizer, shape, "the model")
    parameters = dict(model.named_parameters())
    weights: dict[str, Tensor] = {}
    for ours, theirs in names.items():
        tensor = parameters[ours].detach()
        tensor = tensor[: tokenizer.size] if ours in VOCABULARY_LONG else tensor
        for name, part in zip(theirs, tensor.chunk(len(theirs)), strict=True):
            prefix = PREFIX if is_encoder(name) and architecture != "ElectraModel" else ""
            weights[prefix + name] = part
    _write_files(weights, shape, architecture, tokenizer, folder)


def _write_files(
    weights: Mapping[str, Tensor], shape: EncoderShape, architecture: str, tokenizer: WordPiece, folder: Path
) -> None:
    config = huggingface_config(
        replace(shape, vocab=tokenizer.size), architecture=architecture, pad=tokenizer.special.pad
    )
    folder.mkdir(parents=True, exist_ok=True)
    plain = {
        name: tensor.to("cpu", torch.float32).clone(memory_format=torch.contiguous_format)
        for name, tensor in weights.items()
    }
    write_tensors(plain, folder / WEIGHTS)
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf8")
    tokenizer.write(folder, model_max_length=shape.positions)
