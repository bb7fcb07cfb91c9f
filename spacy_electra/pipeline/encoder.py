"""The encoder of a pipeline together with its tokenizer: one thinc shim, which is all that goes to disk.

Legend: N pieces, D width; B windows of a batch, T slots of a window.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from spacy_electra.data.wordpiece import WordPiece
from spacy_electra.model.attention import within_lengths
from spacy_electra.model.dropout import Dropout
from spacy_electra.model.encoder import Encoder, EncoderShape
from spacy_electra.model.shim import Backprop, TorchShim
from spacy_electra.pipeline.finetuning import FineTuning
from spacy_electra.pipeline.lora import has_adapters, merged
from spacy_electra.pipeline.windows import Layout


@dataclass(frozen=True)
class EncoderInputs:
    """What one call reads."""

    layout: Layout
    drop: Dropout | None  # None for predictions


def encode(encoder: Encoder, inputs: EncoderInputs) -> Tensor:
    """One vector for each piece of all documents, (N, D) float32."""
    weight = encoder.embeddings.word.weight
    slots = [weight.new_zeros((0, encoder.shape.width))]
    for batch in inputs.layout.batches:
        ids = torch.from_numpy(batch.ids).to(weight.device)
        mask = within_lengths(torch.from_numpy(batch.lengths).to(weight.device), ids.shape[1])
        slots.append(encoder(ids, mask=mask, drop=inputs.drop).flatten(0, 1))
    source = torch.from_numpy(inputs.layout.source).to(weight.device)
    return torch.cat(slots).index_select(0, source).float()


WHOLE = FineTuning()  # all of the encoder learns


class EncoderShim(TorchShim):
    """Runs an encoder and keeps its tokenizer. Both come from `set_encoder` or `from_bytes`.

    Adapters are made in the first training pass, so that loading and predicting need no peft. Whatever leaves the shim
    (bytes, copies, pickles) has them merged. The steps that unfreezing counts go along with a copy, not to disk.
    """

    def __init__(self, *, precision: str = "auto", fine_tuning: FineTuning = WHOLE):
        """precision: as `model.precision.choose_precision` takes it. fine_tuning: what of the encoder learns."""
        super().__init__(None, forward=encode, precision=precision)
        self.fine_tuning = fine_tuning
        self._tokenizer: WordPiece | None = None
        self._names: np.ndarray | None = None
        self._steps = 0  # asked for since the weights came

    @property
    def has_encoder(self) -> bool:
        return self._tokenizer is not None

    @property
    def encoder(self) -> Encoder:
        """The encoder that learns, with its adapters where it has some."""
        module = self.module
        assert isinstance(module, Encoder)
        return module

    @property
    def shape(self) -> EncoderShape:
        return self.encoder.shape

    @property
    def tokenizer(self) -> WordPiece:
        assert self.module is not None
        assert self._tokenizer is not None
        return self._tokenizer

    @property
    def piece_names(self) -> np.ndarray:
        """(vocabulary,) object array: the string of every piece."""
        assert self.module is not None
        assert self._names is not None
        return self._names

    def set_module(self, module: nn.Module) -> None:
        super().set_module(module)
        self._steps = 0
        self.fine_tuning.prepare(self.encoder)

    def begin_update(self, inputs: Any) -> tuple[Any, Backprop]:
        self.fine_tuning.begin(self.encoder)
        return super().begin_update(inputs)

    def after_step(self) -> None:
        self._steps += 1
        if self.fine_tuning.changes_after(self._steps):
            self.fine_tuning.prepare(self.encoder, steps=self._steps)
            self.learn_more()

    @property
    def is_plain(self) -> bool:
        return not has_adapters(self.encoder)

    def plain_module(self) -> nn.Module:
        if self.is_plain:
            return self.encoder
        plain = merged(self.encoder)
        self.fine_tuning.prepare(plain)
        return plain

    def set_encoder(self, encoder: Encoder, tokenizer: WordPiece) -> None:
        """Run this encoder from now on, on the pieces of this tokenizer."""
        self._set_tokenizer(tokenizer)
        self.set_module(encoder)

    def _set_tokenizer(self, tokenizer: WordPiece) -> None:
        self._tokenizer, self._names = tokenizer, np.array(tokenizer.vocabulary, dtype=object)

    def __getstate__(self) -> dict[str, Any]:
        mine = {name: self.__dict__[name] for name in ("_tokenizer", "_names", "fine_tuning", "_steps")}
        return super().__getstate__() | mine | {"_model": self.plain_module() if self.has_encoder else None}

    def describe(self) -> dict[str, Any]:
        return {"shape": asdict(self.shape), "tokenizer": self.tokenizer.to_json()}

    def rebuild(self, description: dict[str, Any]) -> nn.Module:
        self._set_tokenizer(WordPiece.from_json(description["tokenizer"]))
        with torch.device("meta"):
            return Encoder(EncoderShape(**description["shape"]))
