"""Replace a listener by an encoder of its own, for `nlp.replace_listeners`.

The layers are nested as in spacy-transformers' `Tok2VecTransformer`, chain(chain(encoder, split), pooling), because the
listener that is replaced is itself the first layer of a chain with the pooling.
"""

from typing import Any

from spacy.tokens import Doc
from thinc.api import Model, chain
from thinc.types import Floats2d, Ragged

from spacy_electra.pipeline.spacy_transformers_api import (
    FullTransformerBatch,
    TransformerData,
    split_trf_batch,
    trfs2arrays,
)

SHARED, PRIVATE = "spacy-electra.ElectraTransformer", "spacy-electra.Tok2VecElectra"


def replace_listener(model: Model[list[Doc], FullTransformerBatch]) -> Model[list[Doc], list[TransformerData]]:
    """The model that replaces a listener: the encoder, with its output split by document."""
    return chain(model, split_trf_batch())


def replace_listener_cfg(transformer: dict[str, Any], listener: dict[str, Any]) -> dict[str, Any]:
    """The config of the listener's own encoder: the transformer's, with the listener's pooling and grad_factor."""
    answer = dict(transformer)
    if transformer["@architectures"].startswith(SHARED) and "TransformerListener" in listener["@architectures"]:
        answer["@architectures"] = transformer["@architectures"].replace(SHARED, PRIVATE)  # of the same version
        answer.update({key: listener[key] for key in ("pooling", "grad_factor") if key in listener})
    return answer


def pool_tokens(
    transformer: Model[list[Doc], FullTransformerBatch], pooling: Model[Ragged, Floats2d], grad_factor: float
) -> Model[list[Doc], list[Floats2d]]:
    """Encode documents, and pool the vectors of each token's pieces.

    grad_factor: factor for the gradients that reach the encoder.
    """
    return chain(replace_listener(transformer), trfs2arrays(pooling, grad_factor))
