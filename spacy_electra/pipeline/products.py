"""Use torch's matrix multiplication in all components of a pipeline on a CPU.

spaCy's components multiply with BLIS, which uses generic kernels on processors that it does not know. On an AMD EPYC
(Zen 4), these reach half of torch's speed or less for the matrices of a parser.
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
    """thinc's operations on CPUs, with torch's `gemm`, in torch's threads."""

    def gemm(
        self,
        x: np.ndarray,
        y: np.ndarray,
        *,
        out: np.ndarray | None = None,
        trans1: bool = False,
        trans2: bool = False,
    ) -> np.ndarray:
        """Multiply two float32 matrices, each transposed if asked for.

        Raises ValueError, as thinc does, for other dtypes and for arrays that are not matrices.
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
        """A tensor in the memory of an array; a copy if that is read-only or not contiguous."""
        kept = self.as_contig(array)
        return torch.from_numpy(kept if kept.flags.writeable else kept.copy())


def multiply_in_torch(nlp: Language) -> Language:
    """Let all models of a pipeline that use thinc's own operations on a CPU multiply with torch.

    Used as `[nlp] after_pipeline_creation`. Other operations, such as those of GPUs or Apple's libraries, stay. Returns
    `nlp`.
    """
    ops = TorchProductsOps()
    for _, pipe in nlp.components:
        model: Any = getattr(pipe, "model", None)
        for node in model.walk() if isinstance(model, Model) else ():
            if type(node.ops) is NumpyOps:
                node.ops = ops
    return nlp


def create_torch_products() -> Callable[[Language], Language]:
    """Create the callback `spacy-electra.torch_products.v1`."""
    return multiply_in_torch
