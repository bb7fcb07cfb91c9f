"""A pipeline in a process that has set torch otherwise computes what it computes alone, to the bit."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

import numpy as np
import pytest
import spacy
import torch

from spacy_electra.model.isolation import isolated
from spacy_electra.pipeline.products import TorchProductsOps

TEXTS = ["The cat sat on the mat.", "", "Unbelievably, it reads pieces in New York " * 9]


@contextmanager
def having(setter: Callable, value: object, before: object) -> Iterator[None]:
    setter(value)
    try:
        yield
    finally:
        setter(before)


AROUND = {
    "autocast to bfloat16": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "autocast to float16": lambda: torch.autocast("cpu", dtype=torch.float16),
    "inference mode": torch.inference_mode,
    "no gradients": torch.no_grad,
    "default dtype float64": lambda: having(torch.set_default_dtype, torch.float64, torch.float32),
    "default dtype bfloat16": lambda: having(torch.set_default_dtype, torch.bfloat16, torch.float32),
    "default dtype float16": lambda: having(torch.set_default_dtype, torch.float16, torch.float32),
    "default device meta": lambda: having(torch.set_default_device, "meta", None),
    "products of fewer bits": lambda: having(torch.set_float32_matmul_precision, "medium", "highest"),
    "deterministic algorithms": lambda: having(torch.use_deterministic_algorithms, True, False),
}
EVERYWHERE = dict.fromkeys(["make", "predict", "update", "load"], True)


def life(make_nlp, examples_of, around, *, settings, where=EVERYWHERE) -> list[np.ndarray]:
    """All that a pipeline answers: new, after updates in the middle of which it has predicted, and loaded again."""

    def there(what: str):
        return around() if where.get(what) else nullcontext()

    with there("make"):
        nlp = make_nlp(dropout=0.1, **settings)
    optimizer, answers = nlp.resume_training(), []

    def look(pipeline) -> None:
        with there("predict"):
            answers.extend(doc._.trf_data.tensors[0] for doc in pipeline.pipe(TEXTS) if len(doc))

    look(nlp)
    spacy.util.fix_random_seed(0)
    with there("update"):
        for _ in range(3):
            losses = nlp.update(examples_of(nlp), sgd=optimizer)
            answers.append(np.array(list(losses.values()), dtype=np.float64))
    look(nlp)
    saved = nlp.to_bytes()
    with there("load"):
        loaded = spacy.util.load_model_from_config(nlp.config, auto_fill=True).from_bytes(saved)
    look(loaded)
    loaded.update(examples_of(loaded), sgd=loaded.resume_training())
    look(loaded)
    return answers


@pytest.fixture(scope="module")
def alone(make_nlp, examples_of):
    known: dict[str, list[np.ndarray]] = {}

    def answers(precision: str) -> list[np.ndarray]:
        if precision not in known:
            known[precision] = life(make_nlp, examples_of, nullcontext, settings={"precision": precision})
        return known[precision]

    return answers


def check_equal(answers: list[np.ndarray], expected: list[np.ndarray]) -> None:
    for answer, other in zip(answers, expected, strict=True):
        assert answer.dtype == other.dtype
        np.testing.assert_array_equal(answer, other)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", AROUND)
def test_what_a_process_has_set_in_torch_changes_no_bit(make_nlp, examples_of, alone, name, precision):
    answers = life(make_nlp, examples_of, AROUND[name], settings={"precision": precision})
    check_equal(answers, alone(precision))


@pytest.mark.parametrize("what", EVERYWHERE)
def test_each_call_alone_may_be_in_inference_mode(make_nlp, examples_of, alone, what):
    """Weights made there could not learn, and gradients would be lost there."""
    answers = life(make_nlp, examples_of, torch.inference_mode, settings={"precision": "fp32"}, where={what: True})
    check_equal(answers, alone("fp32"))


def test_an_autocast_around_several_updates_keeps_no_weights_of_the_first(make_nlp, examples_of):
    answers = []
    for around in (nullcontext, lambda: torch.autocast("cpu", dtype=torch.float16)):
        nlp = make_nlp(precision="bf16")
        optimizer = nlp.resume_training()
        with around():
            answers.append([nlp.update(examples_of(nlp), sgd=optimizer)["tagger"] for _ in range(4)])
    assert answers[0] == answers[1]
    assert len(set(answers[0])) == 4


@pytest.mark.parametrize("name", AROUND)
def test_products_of_heads_are_those_of_float32(name):
    x, y = np.random.default_rng(0).standard_normal((2, 64, 64), dtype=np.float32)
    expected = TorchProductsOps().gemm(x, y)
    with AROUND[name]():
        np.testing.assert_array_equal(TorchProductsOps().gemm(x, y), expected)
        np.testing.assert_array_equal(TorchProductsOps().gemm(x, y, out=np.empty_like(x)), expected)


def test_predictions_draw_nothing_from_the_generators_of_the_process(nlp):
    torch.manual_seed(3)
    np.random.seed(3)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()
    list(nlp.pipe(TEXTS))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]


@pytest.mark.skipif(not hasattr(torch.backends.cuda.matmul, "fp32_precision"), reason="torch older than 2.9")
@pytest.mark.parametrize("name", ["high", "medium"])
def test_float32_products_are_given_back_as_they_were(name):
    multipliers = (torch.backends.mkldnn.matmul, torch.backends.cuda.matmul)
    with having(torch.set_float32_matmul_precision, name, "highest"):
        before = [multiplier.fp32_precision for multiplier in multipliers]
        with isolated(), isolated():
            assert [multiplier.fp32_precision for multiplier in multipliers] == ["ieee", "ieee"]
        assert [multiplier.fp32_precision for multiplier in multipliers] == before != ["ieee", "ieee"]
        assert torch.get_float32_matmul_precision() == name


def test_the_state_of_a_thread_is_given_back():
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        with isolated():
            assert torch.is_grad_enabled()
            assert not torch.is_inference_mode_enabled()
            assert not torch.is_autocast_enabled("cpu")
        assert torch.is_inference_mode_enabled()
        assert torch.is_autocast_enabled("cpu")
        assert torch.get_autocast_dtype("cpu") == torch.bfloat16
