"""Let torch multiply for the components of a pipeline, as it does for the transformer.

spaCy's heads multiply by BLIS, which takes its generic kernels on processors that it does not know: on an AMD EPYC
(Zen 4) these reach half or less of what torch does in the products that a parser makes for every token.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from spacy.language import Language
from thinc.api import Model, NumpyOps
from torch import Tensor

from spacy_electra.model.isolation import isolated


class TorchProductsOps(NumpyOps):
    """thinc's operations on CPUs, but `gemm` is torch's, on the threads that torch has."""

    def gemm(
        self,
        x: np.ndarray,
        y: np.ndarray,
        *,
        out: np.ndarray | None = None,
        trans1: bool = False,
        trans2: bool = False,
    ) -> np.ndarray:
        """The product of two matrices in float32, each transposed where that is asked for.

        Raises ValueError, as thinc does, for other types or shapes.
        """
        if any(array.ndim != 2 or array.dtype != np.float32 for array in (x, y)):
            product: np.ndarray = super().gemm(x, y, out=out, trans1=trans1, trans2=trans2)
            return product
        one, other = self._tensor(x), self._tensor(y)
        one, other = one.T if trans1 else one, other.T if trans2 else other
        with isolated():
            if out is None:
                return torch.mm(one, other).numpy()
            torch.mm(one, other, out=torch.from_numpy(out))
            return out

    def _tensor(self, array: np.ndarray) -> Tensor:
        """The same memory, or a copy where torch would complain of it."""
        kept = self.as_contig(array)
        return torch.from_numpy(kept if kept.flags.writeable else kept.copy())


def multiply_in_torch(nlp: Language) -> Language:
    """Give all models of a pipeline that are on a CPU, and have thinc's own operations, those of torch.

    As `[nlp] after_pipeline_creation`. Other operations, as those of a graphics card or of Apple's libraries, stay.
    """
    ops = TorchProductsOps()
    for _, pipe in nlp.components:
        model: Any = getattr(pipe, "model", None)
        for node in model.walk() if isinstance(model, Model) else ():
            if type(node.ops) is NumpyOps:
                node.ops = ops
    return nlp


def create_torch_products() -> Callable[[Language], Language]:
    """What `@callbacks = "spacy-electra.torch_products.v1"` makes."""
    return multiply_in_torch
