"""All that the package takes from spacy-transformers, and the one class that this takes from transformers.

Other modules import these names from here, so that a release that moves or renames them is met in one place.
`[options] install_requires` of setup.cfg says which releases of spacy-transformers have them; the range of transformers
is spacy-transformers' own.
"""

from spacy_transformers.data_classes import FullTransformerBatch, TransformerData, WordpieceBatch
from spacy_transformers.layers import split_trf_batch, trfs2arrays
from spacy_transformers.pipeline_component import Transformer
from transformers.utils.generic import ModelOutput

__all__ = [
    "FullTransformerBatch",
    "ModelOutput",
    "Transformer",
    "TransformerData",
    "WordpieceBatch",
    "split_trf_batch",
    "trfs2arrays",
]
