"""Docs -> FullTransformerBatch: the model of spacy-transformers' `transformer` component."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import srsly
from confection import ConfigValidationError
from spacy.tokens import Doc
from thinc.api import Model
from torch import Tensor

from spacy_electra.model.files.int8 import UnknownPartError
from spacy_electra.model.inference.packed import PackedBatch
from spacy_electra.model.isolation import isolated
from spacy_electra.model.network.dropout import NO_DROPOUT, TorchDropout
from spacy_electra.model.shim import no_backprop
from spacy_electra.pipeline.batch import ElectraBatch
from spacy_electra.pipeline.encoder import EncoderShim
from spacy_electra.pipeline.finetuning import FineTuning, check_fine_tuning
from spacy_electra.pipeline.kept import KEEP_MB, Origin
from spacy_electra.pipeline.layout import pack_windows
from spacy_electra.pipeline.pieces import cut_pieces
from spacy_electra.pipeline.private import replace_listener, replace_listener_cfg
from spacy_electra.pipeline.spacy_transformers_api import FullTransformerBatch
from spacy_electra.pipeline.windows import check_windows, room_and_stride

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TransformerSettings:
    """Settings that are not saved with the weights, so that a saved pipeline can be loaded with others."""

    name: str | None
    window: int | None
    stride: int | None
    dropout: float
    fine_tuning: FineTuning


class TransformerModel(Model[list[Doc], FullTransformerBatch]):
    """A thinc model whose `from_bytes` names the component in its errors."""

    def from_bytes(self, bytes_data: bytes) -> "TransformerModel":
        """Load the result of `to_bytes`. Raises ValueError if the bytes are damaged or of another model.

        Only the weights in thinc's message are used. Names, dimensions and settings follow from these and the config.
        """
        try:
            shim_of_transformer(self).from_bytes(_saved_shim(bytes_data))
            if shim_of_transformer(self).has_encoder:
                self.set_dim("nO", shim_of_transformer(self).shape.width)
        except UnknownPartError:
            raise  # the config is wrong, not the weights
        except ValueError as error:
            raise ValueError(
                f"the weights of the transformer component cannot be read: {str(error).rstrip('.')}. "
                f"Unless its config was changed, the saved pipeline is damaged or was copied in part: "
                f"copy it again, or install its package again."
            ) from error
        return self


def _saved_shim(data: bytes) -> bytes:
    """The bytes of the only shim in thinc's message of the model. Raises ValueError if there is none."""
    try:
        message: Any = srsly.msgpack_loads(data)
        ((saved,),) = message["shims"]
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"they are no message of a model with one shim ({error})") from error
    if not isinstance(saved, bytes):
        raise ValueError(f"the shim's weights are a {type(saved).__name__}, expected bytes")
    return saved


def electra_transformer(
    settings: TransformerSettings,
    *,
    max_batch_tokens: int,
    precision: str,
    int8_excluded: Sequence[str] = (),
    weights_on_disk: str = "fp32",
    cache_mb: float = 0.0,
    keep_mb: float = KEEP_MB,
) -> Model[list[Doc], FullTransformerBatch]:
    """Build the model, without weights: `initialize` reads those of `settings.name`, `from_bytes` saved ones.

    The other arguments are those of `build_electra_transformer`.

    Raises ConfigValidationError, a ValueError that spaCy's commands show without a traceback, for settings out of
    range.
    """
    try:
        _check(settings)
        shim = EncoderShim(
            max_batch_tokens=max_batch_tokens,
            precision=precision,
            int8_excluded=int8_excluded,
            fine_tuning=settings.fine_tuning,
            weights_on_disk=weights_on_disk,
            cache_mb=cache_mb,
            keep_mb=keep_mb,
        )
    except ValueError as error:
        raise ConfigValidationError(title="The transformer's settings cannot be used", desc=str(error)) from error
    return TransformerModel(
        "electra_transformer",
        forward,
        init=init,
        dims={"nO": None},
        shims=[shim],
        attrs={
            "settings": settings,
            "replace_listener": replace_listener,
            "replace_listener_cfg": replace_listener_cfg,
        },
    )


def _check(settings: TransformerSettings) -> None:
    check_windows(settings.window, settings.stride)
    if not 0.0 <= settings.dropout < 1.0:
        raise ValueError(f"dropout must be at least 0 and below 1, but got {settings.dropout}.")
    check_fine_tuning(settings.fine_tuning)


@isolated()
def forward(
    model: Model[list[Doc], FullTransformerBatch], docs: list[Doc], is_train: bool
) -> tuple[FullTransformerBatch, Callable[[FullTransformerBatch], list[Doc]]]:
    """Compute the vectors of the pieces of `docs`; the callback takes a batch of gradients."""
    shim, settings = shim_of_transformer(model), settings_of(model)
    pieces = cut_pieces(docs, shim.tokenizer)
    shim.unknown.see_pieces(pieces.ids, unk=shim.tokenizer.special.unk)
    if is_train:
        origin = None
        drop = TorchDropout(settings.dropout) if settings.dropout else NO_DROPOUT
        vectors, backprop_vectors = shim.begin_update((_packed(shim, settings, pieces.ids, pieces.counts), drop))
        shim.watch.see_vectors(vectors)
    else:
        origin, backprop_vectors = _origin(shim, settings), no_backprop
        vectors = origin.encode(pieces.ids, pieces.counts)

    def backprop(gradient: FullTransformerBatch) -> list[Doc]:
        assert isinstance(gradient, ElectraBatch)
        backprop_vectors([vectors], [gradient.vectors])
        return docs

    return ElectraBatch.of(docs, pieces, vectors.detach(), shim.piece_names, origin=origin), backprop


def _origin(shim: EncoderShim, settings: TransformerSettings) -> Origin:
    """The predictions of the current weights."""
    version = shim.version

    def predict(ids: np.ndarray, counts: np.ndarray) -> Tensor:
        vectors: Tensor = shim.predict(_packed(shim, settings, ids, counts))
        return vectors

    def encode(ids: np.ndarray, counts: np.ndarray) -> Tensor:
        if not shim.cache.room:
            return predict(ids, counts)
        return shim.cache.look_up(ids, counts, weights=version, encode=predict)

    return Origin(encode=encode, is_current=lambda: shim.version is version, kept=shim.kept)


def _packed(shim: EncoderShim, settings: TransformerSettings, ids: np.ndarray, counts: np.ndarray) -> PackedBatch:
    room, stride = room_and_stride(settings.window, settings.stride, positions=shim.shape.positions)
    return pack_windows(ids, counts, shim.tokenizer.special, room=room, stride=stride)


def init(model: Model[list[Doc], FullTransformerBatch], X: Any = None, Y: Any = None) -> None:
    """Read the pretrained weights, unless the model has weights already.

    Raises ConfigValidationError, a ValueError that spaCy's commands show without a traceback, if there are none, or if
    they do not fit the settings.
    """
    try:
        _read_weights(model)
    except (ValueError, OSError) as error:
        raise ConfigValidationError(title="The transformer cannot be initialized", desc=str(error)) from error


def _read_weights(model: Model[list[Doc], FullTransformerBatch]) -> None:
    from spacy_electra.model.init.pretrained import load_encoder  # which a saved pipeline does not need to load

    shim, settings = shim_of_transformer(model), settings_of(model)
    if not shim.has_encoder:
        if settings.name is None:
            raise ValueError(
                "the transformer has no weights and its config has name = null: "
                "give the directory or the hub name of an ELECTRA discriminator as `name`, or load a saved pipeline."
            )
        shim.set_encoder(*load_encoder(settings.name))
        logger.info("Read pretrained weights from '%s': %s", settings.name, shim.shape)
    room_and_stride(settings.window, settings.stride, positions=shim.shape.positions)
    settings.fine_tuning.check(shim.shape.layers)
    model.set_dim("nO", shim.shape.width)


def shim_of_transformer(model: Model[Any, Any]) -> EncoderShim:
    """The shim of a model of `electra_transformer`, with encoder and tokenizer."""
    shim = model.shims[0]
    assert isinstance(shim, EncoderShim)
    return shim


def settings_of(model: Model[Any, Any]) -> TransformerSettings:
    """The settings of a model of `electra_transformer`."""
    settings: TransformerSettings = model.attrs["settings"]
    return settings
