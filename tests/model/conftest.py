"""What tests of the kernels need around them."""

from collections.abc import Iterator

import pytest
import torch

from spacy_electra.model import native_blocks


@pytest.fixture
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def in_torch(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Blocks run without kernels."""
    with monkeypatch.context() as patched:
        patched.setattr(native_blocks, "learns_in_kernels", lambda device: False)
        yield
