"""The encoder of a pipeline and its tokenizer, in one thinc shim, which is all that is saved of the model.

Legend: N pieces, D width.
"""

import logging
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from spacy_electra.data.tokenizer.wordpiece import WordPiece
from spacy_electra.model.files.int8 import check_parts, compressed, linear_weights
from spacy_electra.model.files.weights import SavedWeights
from spacy_electra.model.inference.backend import Backend, Choice, choose_backend, passed_over, prepare_backend
from spacy_electra.model.inference.eager import encode
from spacy_electra.model.inference.packed import EncodeFn, PackedBatch
from spacy_electra.model.isolation import isolated
from spacy_electra.model.network.dropout import Dropout
from spacy_electra.model.network.encoder import Encoder, EncoderShape
from spacy_electra.model.optim.rates import GUARDED
from spacy_electra.model.precision import INT8, PRECISIONS, check_precision
from spacy_electra.model.shim import Backprop, TorchShim
from spacy_electra.pipeline.cache import VectorCache
from spacy_electra.pipeline.collapse import CollapseWatch
from spacy_electra.pipeline.description import describe_encoder, read_description
from spacy_electra.pipeline.finetuning import FineTuning
from spacy_electra.pipeline.kept import KEEP_MB, KeptVectors
from spacy_electra.pipeline.lora import has_adapters, merged
from spacy_electra.pipeline.unknown import UnknownWatch

logger = logging.getLogger(__name__)


WHOLE = FineTuning()  # all of the encoder learns
ON_DISK = ("fp32", "int8")  # how weights are saved
# A rate of 3e-4 for width 256, as the paper fine-tunes its small model; 1e-4 for 768, 8e-5 for 1024
RATE_TIMES_WIDTH = 0.08


def _train(encoder: Encoder, inputs: tuple[PackedBatch, Dropout], *, max_batch_tokens: int) -> Tensor:
    """Encode a batch with gradients: (N, D) float32 vectors."""
    batch, drop = inputs
    return encode(encoder, batch, max_batch_tokens=max_batch_tokens, drop=drop)


class EncoderShim(TorchShim):
    """Runs an encoder and holds its tokenizer. Both are set by `set_encoder` or `from_bytes`.

    LoRA adapters are added in the first training pass, so that loading and predicting need no peft. Bytes, copies and
    pickles have them merged. Copies keep the step count of gradual unfreezing, bytes do not.
    """

    precisions = (*PRECISIONS, INT8)
    default_rate = GUARDED

    def __init__(
        self,
        *,
        max_batch_tokens: int,
        precision: str = "auto",
        int8_excluded: Sequence[str] = (),
        fine_tuning: FineTuning = WHOLE,
        weights_on_disk: str = "fp32",
        cache_mb: float = 0.0,
        keep_mb: float = KEEP_MB,
    ):
        """max_batch_tokens: maximum tokens, padding included, that torch computes at once.
        precision: as for `choose_backend`.
        int8_excluded: modules that are not quantized, of `files.int8.parts_of`.
        fine_tuning: which parameters are trained.
        weights_on_disk: one of `ON_DISK`.
        cache_mb: megabytes of the cache of vectors, 0 for none.
        keep_mb: maximum megabytes of vectors that documents hold.
        Raises ValueError for other values.
        """
        if max_batch_tokens < 1:
            raise ValueError(
                f"max_batch_tokens must be above 0, but got {max_batch_tokens}: no batch could hold a window."
            )
        if not cache_mb >= 0:
            raise ValueError(f"cache_mb must be 0, for no cache, or more, but got {cache_mb}.")
        if not keep_mb >= 0:
            raise ValueError(f"keep_mb must be 0, for the last batch's vectors alone, or more, but got {keep_mb}.")
        self.cache_mb, self.keep_mb = cache_mb, keep_mb
        self.kept = KeptVectors(keep_mb)
        if weights_on_disk not in ON_DISK:
            raise ValueError(f"weights_on_disk must be one of {', '.join(ON_DISK)}, but got {weights_on_disk!r}.")
        super().__init__(None, forward=partial(_train, max_batch_tokens=max_batch_tokens), precision=precision)
        self.max_batch_tokens = max_batch_tokens
        self.int8_excluded = tuple(int8_excluded)
        self.fine_tuning = fine_tuning
        self.weights_on_disk = weights_on_disk
        self._tokenizer: WordPiece | None = None
        self._names: np.ndarray | None = None
        self._steps = 0  # asked for since the weights came
        self.unknown = UnknownWatch()
        self._is_rounded = False  # to int8, and nobody was warned yet of what that means in training

    def set_precision(self, precision: str, *, int8_excluded: Sequence[str] = ()) -> None:
        """Use a precision from the next call on. Raises ValueError for an unknown precision or module."""
        check_precision(precision, known=self.precisions)
        check_parts(int8_excluded, layers=self.shape.layers)
        self.precision, self.int8_excluded = precision, tuple(int8_excluded)
        self.version = object()  # the same weights, but copies and vectors of them are others

    @property
    def has_encoder(self) -> bool:
        """True once encoder and tokenizer are set."""
        return self._tokenizer is not None

    @property
    def choice(self) -> Choice:
        """How this encoder predicts and trains on its device."""
        return choose_backend(self.precision, self.device, self.shape)

    @property
    def encoder(self) -> Encoder:
        """The encoder in training, with its LoRA adapters if it has any."""
        module = self.module
        assert isinstance(module, Encoder)
        return module

    @property
    def shape(self) -> EncoderShape:
        """The shape of the encoder. Raises ValueError if it has no weights yet."""
        return self.encoder.shape

    @property
    def tokenizer(self) -> WordPiece:
        """The tokenizer of the encoder."""
        assert self.module is not None
        assert self._tokenizer is not None
        return self._tokenizer

    @property
    def piece_names(self) -> np.ndarray:
        """(vocabulary,) object array: the string of every piece."""
        assert self.module is not None
        assert self._names is not None
        return self._names

    @isolated()
    def set_module(self, module: nn.Module) -> None:
        """Use this encoder from now on. Raises ValueError if it lacks a module that `int8_excluded` names."""
        assert isinstance(module, Encoder)
        check_parts(self.int8_excluded, layers=module.shape.layers)
        super().set_module(module)
        if self.precision == INT8 and self.choice.prediction is not Backend.NATIVE_INT8:
            first = passed_over(INT8, self.device, self.shape)[0]
            logger.warning('precision = "int8" predicts as "auto" here: %s.', "; ".join(first.lacks))
        self._steps = 0
        self.fine_tuning.prepare(self.encoder)

    def _forget(self) -> None:
        super()._forget()
        self.cache = VectorCache(self.cache_mb)
        self.watch = CollapseWatch()

    @isolated()
    def begin_update(self, inputs: Any) -> tuple[Any, Backprop]:
        """Run the encoder with gradients, as the base class does; the first pass adds the LoRA adapters."""
        if self._is_rounded:
            logger.warning(
                'weights_on_disk = "int8": these weights were rounded when they were saved, and will be again. Updates '
                'that move them by less than half a level are lost then: train on with weights_on_disk = "fp32".'
            )
            self._is_rounded = False
        self.fine_tuning.begin(self.encoder)
        self.watch.see_answer(was_answered=not self.steps.is_asked)
        return super().begin_update(inputs)

    @property
    def highest_rate(self) -> float | None:
        """Maximum learning rate, inversely proportional to width; None for LoRA adapters, which are not pretrained."""
        return None if self.fine_tuning.lora_rank else RATE_TIMES_WIDTH / self.shape.width

    def after_step(self) -> None:
        """Check the gradient norm, and unfreeze the next layer if it is due."""
        if self.steps.gradient_norm is not None:
            self.watch.see_gradients(self.steps.gradient_norm)
        self._steps += 1
        if self.fine_tuning.changes_after(self._steps):
            self.fine_tuning.prepare(self.encoder, steps=self._steps)
            self.steps.learn_more()

    @property
    def is_plain(self) -> bool:
        """True if the encoder has no LoRA adapters."""
        return not has_adapters(self.encoder)

    def plain_module(self) -> nn.Module:
        """The encoder with its LoRA adapters merged; itself if it has none."""
        if self.is_plain:
            return self.encoder
        plain = merged(self.encoder)
        self.fine_tuning.prepare(plain)
        return plain

    def set_encoder(self, encoder: Encoder, tokenizer: WordPiece) -> None:
        """Use this encoder, and this tokenizer with it, from now on."""
        self._set_tokenizer(tokenizer)
        self.set_module(encoder)

    def _set_tokenizer(self, tokenizer: WordPiece) -> None:
        self._tokenizer, self._names = tokenizer, np.array(tokenizer.vocabulary, dtype=object)

    @isolated()
    def __getstate__(self) -> dict[str, Any]:
        names = ("_tokenizer", "_names", "fine_tuning", "_steps", "_is_rounded", "unknown")
        settings = ("max_batch_tokens", "int8_excluded", "weights_on_disk", "cache_mb", "keep_mb")
        mine = {name: self.__dict__[name] for name in (*names, *settings)}
        return super().__getstate__() | mine | {"_model": self.plain_module() if self.has_encoder else None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.kept = KeptVectors(self.keep_mb)

    def prepare(self, module: nn.Module, backend: Backend) -> EncodeFn:
        """Prepare a backend for an encoder, with the batch size and `int8_excluded` of this shim."""
        assert isinstance(module, Encoder)
        return prepare_backend(
            backend, module, max_batch_tokens=self.max_batch_tokens, int8_excluded=self.int8_excluded
        )

    def stored(self) -> dict[str, Tensor]:
        """The weights as they are saved, compressed if `weights_on_disk` is int8."""
        weights = super().stored()
        if self.weights_on_disk == INT8:
            return compressed(weights, linear=linear_weights(self.plain_module()))
        return weights

    def describe(self) -> dict[str, Any]:
        """The shape and tokenizer of the encoder, as JSON values."""
        return describe_encoder(self.shape, self.tokenizer)

    def rebuild(self, saved: SavedWeights) -> nn.Module:
        """Set the saved tokenizer, and make an encoder on the meta device. Raises ValueError as `read_description`."""
        shape, tokenizer = read_description(saved)
        self._set_tokenizer(tokenizer)
        self._is_rounded = self.weights_on_disk == INT8
        with torch.device("meta"):
            return Encoder(shape)
