import contextlib
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import spacy
import torch

from spacy_electra.model.isolation import PARALLELISM, isolated
from spacy_electra.pipeline.encoder import EncoderShim

ROOT = Path(__file__).parents[2]
SECONDS = 60
# torch starts its threads for tensors of this many words and more; a child without the cure waits for them for ever.
FORKING = """
import sys

import numpy as np
import spacy
import torch

from spacy_electra.pipeline.architectures import build_electra_transformer

spacy.registry.architectures.register("spacy-electra.ElectraTransformer.v2", func=build_electra_transformer)
torch.set_num_threads(2)
nlp = spacy.load(sys.argv[1])
print("loaded", flush=True)
texts = ["the encoder reads pieces not words " * n for n in (100, 90, 80, 70)]
alone = [doc._.trf_data.tensors[0] for doc in nlp.pipe(texts)]
forked = [doc._.trf_data.tensors[0] for doc in nlp.pipe(texts, n_process=2, batch_size=1)]
for a, b in zip(alone, forked, strict=True):
    np.testing.assert_allclose(a, b, atol=1e-5)
assert torch.get_num_threads() == 2
print("the same")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="only forked processes lack their parent's threads")
@pytest.mark.parametrize("settings", [{}, {"precision": "bf16"}], ids=str)
def test_forked_workers_answer_silently_after_a_prediction_with_two_threads(make_nlp, wide_dir, tmp_path, settings):
    make_nlp(name=str(wide_dir), **settings).to_disk(tmp_path)
    command = [sys.executable, "-c", FORKING, str(tmp_path)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, text=True, cwd=ROOT, start_new_session=True, **pipes) as process:
        try:
            assert process.stdout.readline() == "loaded\n"
            assert process.communicate(timeout=SECONDS) == ("the same\n", "")
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # the workers too


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
@pytest.mark.parametrize("width", ["model_dir", "wide_dir"])
def test_two_threads_give_what_one_gives(make_nlp, request, tmp_path, precision, width):
    make_nlp(precision=precision, name=str(request.getfixturevalue(width))).to_disk(tmp_path)
    nlp = spacy.load(tmp_path)
    texts = ["the cat sat " * n for n in range(1, 12)]

    def vectors(text: str) -> np.ndarray:
        return nlp(text)._.trf_data.tensors[0]

    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(vectors, texts))
    for text, answer in zip(texts, together, strict=True):
        np.testing.assert_array_equal(answer, vectors(text))


def run_forked(work) -> int:
    """The exit status of a forked child that runs `work`; one that hangs is ended by the system's alarm."""
    child = os.fork()
    if not child:
        signal.alarm(SECONDS // 2)
        try:
            work()
        except BaseException:
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


class SlowToPrepare(EncoderShim):
    """Stands in the midst of a first prediction, which holds a lock, until a while after `begun`."""

    begun = threading.Event()

    def prepare(self, module, backend):
        if threading.current_thread() is not threading.main_thread():
            self.begun.set()
            threading.Event().wait(0.3)
        return super().prepare(module, backend)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="only forked processes lack their parent's threads")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_child_forked_while_another_thread_predicts_answers(make_nlp):
    nlp = make_nlp(precision="bf16", cache_mb=1.0)
    shim = nlp.get_pipe("transformer").model.shims[0]
    shim.__class__, shim.version = SlowToPrepare, object()
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(nlp, "the cat sat")
        assert SlowToPrepare.begun.wait(SECONDS)
        assert run_forked(lambda: nlp("a mat")) == 0
        assert answer.result()._.trf_data.tensors[0].any()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes cannot fork here")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_fork_within_a_pass_waits_for_nothing_and_leaves_all_as_it_was(nlp, monkeypatch):
    monkeypatch.delenv(PARALLELISM, raising=False)
    with isolated():
        assert run_forked(lambda: nlp("a mat")) == 0
    assert PARALLELISM not in os.environ
    assert nlp("a mat")._.trf_data.tensors[0].any()
    assert torch.get_num_threads() == 1
