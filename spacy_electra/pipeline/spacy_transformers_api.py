"""All names that the package imports from spacy-transformers, and the one class that these use of transformers.

Other modules import them from here, so that one place changes if a release moves or renames them. The range of
spacy-transformers is in `[options] install_requires` of setup.cfg; the range of transformers is set by
spacy-transformers.
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
