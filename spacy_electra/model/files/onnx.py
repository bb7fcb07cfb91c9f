"""Export an encoder as ONNX, and check that onnxruntime gives the same vectors.

Needs the packages of the extra `onnx`. Follows `torch.onnx.export`; inputs and output have the names that Hugging
Face's optimum gives them.

Legend: B rows, T pieces a row, D width.
"""

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from spacy_electra.model.files.hub import ONNX
from spacy_electra.model.network.attention import Mask
from spacy_electra.model.network.encoder import Encoder

FILE = ONNX
ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
TOLERANCE = 1e-4  # of the values, which norms keep near 1; both compute in float32
SHAPES = ((1, 3), (2, 1), (3, 17))  # of the inputs that are compared, beside the longest
INPUTS, OUTPUT = ("input_ids", "attention_mask"), "last_hidden_state"


class _Encoding(nn.Module):
    """An encoder with the inputs of the ONNX file."""

    def __init__(self, encoder: Encoder):
        super().__init__()
        self.encoder = encoder

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """(B, T) pieces, and 1 where one is and 0 for padding -> (B, T, D)."""
        hidden: Tensor = self.encoder(input_ids, mask=Mask(attention_mask.bool()[:, None, None]))
        return hidden


def save_onnx(encoder: Encoder, folder: Path) -> Path:
    """Write `folder`/model.onnx, with dynamic numbers of rows and pieces.

    encoder: float32 on the CPU.
    Raises ValueError if a package of the extra is missing, or if onnxruntime's vectors differ from the encoder's by
    more than `TOLERANCE`; an earlier file then stays.
    """
    check_packages()
    module = _Encoding(encoder).eval().requires_grad_(False)
    size = torch.export.Dim("rows"), torch.export.Dim("pieces", max=encoder.shape.positions)
    with _quiet():
        program = torch.onnx.export(
            module,
            _inputs(encoder, 2, 5),
            input_names=INPUTS,
            output_names=[OUTPUT],
            dynamic_shapes={name: dict(enumerate(size)) for name in INPUTS},
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    path, partial = folder / FILE, folder / f".partial-{FILE}"
    try:
        program.save(partial, external_data=False)
        check_file(encoder, partial)
        return partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def check_packages(packages: Sequence[str] = ONNX_PACKAGES) -> None:
    """Raise ValueError if a package that the export needs is missing."""
    missing = [name for name in packages if find_spec(name) is None]
    if missing:
        raise ValueError(
            f"an export to ONNX needs {', '.join(missing)}, which cannot be found: pip install {' '.join(missing)}"
        )


def check_file(encoder: Encoder, path: Path) -> None:
    """Raise ValueError if the vectors that onnxruntime computes from the file differ from those of the encoder."""
    import onnxruntime

    module = _Encoding(encoder).eval().requires_grad_(False)

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for rows, width in (*SHAPES, (1, encoder.shape.positions)):
        inputs = _inputs(encoder, rows, width)
        (answer,) = session.run([OUTPUT], {name: x.numpy() for name, x in zip(INPUTS, inputs, strict=True)})
        seen = inputs[1].bool().numpy()
        difference = float(np.abs(answer - module(*inputs).numpy())[seen].max())
        if not difference <= TOLERANCE:
            raise ValueError(
                f"onnxruntime's vectors for {rows} x {width} pieces differ from torch's by {difference:.2g}, more than "
                f"{TOLERANCE:g}: the file is not kept. Another release of onnxruntime may agree."
            )


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep back what the exporter says of packages that are not used here, and of its own use of torch."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)


def _inputs(encoder: Encoder, rows: int, width: int) -> tuple[Tensor, Tensor]:
    """Pieces drawn at random, and rows of all lengths."""
    generator = torch.Generator().manual_seed(0)
    width = min(width, encoder.shape.positions)
    ids = torch.randint(encoder.shape.vocab, (rows, width), generator=generator, device="cpu")
    lengths = torch.linspace(width, 1, rows, dtype=torch.float32, device="cpu").ceil().long()
    return ids, (torch.arange(width, device="cpu") < lengths[:, None]).long()
