import pytest
import spacy
import torch
from thinc.api import Adam

from spacy_electra.model.optim.adamw import adamw_v1
from spacy_electra.pipeline.collapse import EVERY, LOOKS, STEPS, CollapseWatch, spread_of
from spacy_electra.pipeline.transformer import shim_of_transformer


def weights_of(nlp):
    return [p.detach().clone() for p in shim_of_transformer(nlp.get_pipe("transformer").model).encoder.parameters()]


def is_moved(before, after):
    return any(not torch.equal(a, b) for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize(
    ("vectors", "expected"),
    [
        ([[1.0, 0.0], [1.0, 0.0]], 0.0),
        ([[1.0, 0.0], [-1.0, 0.0]], 1.0),
        ([[1.0, 0.0], [0.0, 1.0]], 0.5),  # the mean's squared length is 1/2, that of each is 1
        ([[0.0, 0.0], [0.0, 0.0]], 0.0),
    ],
)
def test_spread_by_hand(vectors, expected):
    assert spread_of(torch.tensor(vectors)) == pytest.approx(expected)


def test_vectors_that_become_alike_are_told_once_within_a_hundred_passes(caplog):
    watch, vectors = CollapseWatch(), torch.randn(64, 8, generator=torch.Generator().manual_seed(0))
    watch.see_vectors(vectors)
    for number in range(300):
        watch.see_vectors(1 + 0.1 * vectors)
        if number == EVERY * LOOKS:
            assert len(caplog.records) == 1
    assert len(caplog.records) == 1
    assert "the transformer collapses: the vectors of all pieces have become alike" in caplog.text
    assert 'transformer_rate = "auto"' in caplog.text


def test_vectors_that_stay_apart_and_short_batches_are_not_told_of(caplog):
    watch, vectors = CollapseWatch(), torch.randn(64, 8, generator=torch.Generator().manual_seed(0))
    for _ in range(100):
        watch.see_vectors(vectors + 0.5)
        watch.see_vectors(torch.ones(3, 8))
    assert not caplog.records


def test_gradients_that_run_away_are_told_once(caplog):
    watch = CollapseWatch()
    for norm in [2.0] * STEPS + [15.0] * STEPS:
        watch.see_gradients(torch.tensor(norm))
    assert not caplog.records
    for _ in range(2 * STEPS):
        watch.see_gradients(torch.tensor(25.0))
    assert len(caplog.records) == 1
    assert "its gradients have grown from 2 to 25" in caplog.text


def test_a_rate_that_ruins_the_encoder_is_told_within_a_hundred_steps(nlp, examples_of, caplog):
    optimizer = adamw_v1(0.05, transformer_rate=1.0, bias_correction=True)
    for _ in range(100):
        nlp.update(examples_of(nlp), sgd=optimizer)
    assert sum("the transformer collapses" in record.message for record in caplog.records) == 1


def test_spacys_own_adam_leaves_the_encoder_alone_until_the_heads_have_begun(nlp, examples_of, caplog):
    optimizer, before = Adam(0.05), weights_of(nlp)
    for _ in range(50):
        nlp.update(examples_of(nlp), sgd=optimizer)
    assert not is_moved(before, weights_of(nlp))
    for _ in range(50):
        nlp.update(examples_of(nlp), sgd=optimizer)
    assert is_moved(before, weights_of(nlp))
    assert not caplog.records


def test_the_rate_of_auto_falls_with_the_width_and_is_free_for_adapters(make_nlp):
    shim = shim_of_transformer(make_nlp().get_pipe("transformer").model)
    assert shim.highest_rate == pytest.approx(0.08 / 32)  # 3.1e-4 at width 256, 1e-4 at 768
    assert shim_of_transformer(make_nlp(lora_rank=2).get_pipe("transformer").model).highest_rate is None


def test_spacy_scores_and_saves_averaged_weights(nlp, examples_of, tmp_path):
    optimizer = adamw_v1(0.01, use_averages=True)
    for _ in range(5):
        nlp.update(examples_of(nlp), sgd=optimizer)
    text = examples_of(nlp)[0].text
    last = nlp(text)._.trf_data.tensors[0]
    with nlp.use_params(optimizer.averages):
        averaged = nlp(text)._.trf_data.tensors[0]
        nlp.to_disk(tmp_path)
    assert abs(averaged - last).max() > 1e-4
    assert (nlp(text)._.trf_data.tensors[0] == last).all()

    assert (spacy.load(tmp_path)(text)._.trf_data.tensors[0] == averaged).all()
