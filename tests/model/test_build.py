"""From the numbers of a config to the pretraining model: shapes, mistakes, and going on from saved weights."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from spacy_electra.data.batch import Rows, Special
from spacy_electra.data.batches.masking import mask_rows
from spacy_electra.data.rng import row_keys
from spacy_electra.data.tokenizer.wordpiece import WordPiece
from spacy_electra.model.files.huggingface import VOCABULARY_LONG, save_discriminator, save_generator
from spacy_electra.model.keys import check_keys
from spacy_electra.model.network.electra import Electra, MaskedLanguageModel
from spacy_electra.model.optim.adamw import adamw_v1
from spacy_electra.model.pretrainer import Batch, LossWeights, Pretrainer, build_electra

SPECIAL = Special(pad=0, unk=1, cls=2, sep=3, mask=4)
WINDOW = 16
DISCRIMINATOR = {"layers": 2, "width": 16, "feed_forward": 24, "heads": 2, "embedding": 12}
GENERATOR = {"layers": 1, "width": 8, "feed_forward": 16, "heads": 1}

Build = Callable[..., Pretrainer]


def write_vocabulary(folder: Path, *, prefix: str = "w") -> Path:
    folder.mkdir(exist_ok=True)
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"{prefix}{number}" for number in range(20))]
    (folder / "vocab.txt").write_text("\n".join(pieces) + "\n", encoding="utf8")
    return folder


@pytest.fixture
def tokenizer_dir(tmp_path: Path) -> Path:
    return write_vocabulary(tmp_path / "tokenizer")


@pytest.fixture
def build(tokenizer_dir: Path) -> Build:
    def make(**settings: Any) -> Pretrainer:
        given = {"objective": "electra", "tokenizer": str(tokenizer_dir), "window": WINDOW, "precision": "fp32"}
        given |= {"discriminator": DISCRIMINATOR, "generator": GENERATOR}
        return build_electra(**{**given, **settings})

    return make


def batch(*, seed: int = 0) -> Batch:
    """Three rows of one segment each, the last one half empty."""
    ids = torch.randint(5, 25, (3, WINDOW), generator=torch.Generator().manual_seed(1))
    ids[:, 0], ids[:, -1] = SPECIAL.cls, SPECIAL.sep
    segments = torch.ones_like(ids)
    segments[2, 8:] = ids[2, 8:] = 0
    row = torch.arange(3)
    keys = row_keys(seed, epoch=torch.zeros_like(row), row=row)
    rows = Rows(ids, torch.zeros_like(ids), segments, torch.arange(WINDOW).expand_as(ids), keys)
    return Batch(rows=rows, masked=mask_rows(rows, SPECIAL, rate=0.3, unmasked_fraction=0.15))


def weights(model: Pretrainer) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.network.state_dict().items()}


def count(model: Pretrainer) -> int:
    return sum(parameter.numel() for parameter in model.network.parameters())


def losses(model: Pretrainer) -> list[float]:
    output, _ = model.begin_update(batch())
    return [output.generator.loss.item(), output.discriminator.loss.item()]


def test_the_padding_of_the_vocabulary_changes_no_loss_and_no_gradient(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    """25 pieces are padded to 64; the same weights without padding."""
    padded = build()
    monkeypatch.setattr("spacy_electra.model.pretrainer.VOCAB_MULTIPLE", 1)
    exact = build()
    weights_of_both = padded.network.state_dict()
    cut = {
        name: tensor[: len(exact.network.state_dict()[name])] if tensor.ndim else tensor
        for name, tensor in weights_of_both.items()
    }
    exact.network.load_state_dict(cut)
    gradients = []
    for model in (padded, exact):
        _, backprop = model.begin_update(batch())
        one = torch.tensor(1.0)
        backprop(LossWeights(generator=one, discriminator=one))
        gradients.append({name: p.grad for name, p in model.network.named_parameters()})
    assert losses(padded) == pytest.approx(losses(exact), rel=1e-6)
    for name, gradient in gradients[1].items():
        torch.testing.assert_close(gradients[0][name][: len(gradient)], gradient, rtol=1e-5, atol=1e-7)
        assert not gradients[0][name][len(gradient) :].any()


def test_the_numbers_of_the_config_are_the_shapes_of_the_halves(build: Build) -> None:
    network = build().network
    assert isinstance(network, Electra)
    assert vars(network.shape) == {**DISCRIMINATOR, "vocab": 64, "positions": WINDOW, "types": 2}
    assert vars(network.generator_shape) == {**GENERATOR, "embedding": 12, "vocab": 64, "positions": WINDOW, "types": 2}


def test_the_parameters_are_those_counted_by_hand(build: Build) -> None:
    def body(layers: int, width: int, feed_forward: int) -> int:
        project = 12 * width + width
        attention = 4 * (width * width + width)
        return project + layers * (attention + 2 * width * feed_forward + feed_forward + width + 4 * width)

    vocab = 64  # 25 pieces, padded
    embeddings = (vocab + WINDOW + 2 + 2) * 12
    masked_head = 8 * 12 + 12 + 2 * 12 + vocab
    replaced_head = 16 * 16 + 16 + 16 + 1
    assert count(build()) == embeddings + body(2, 16, 24) + body(1, 8, 16) + masked_head + replaced_head


def test_without_a_generator_the_discriminator_guesses_as_well(build: Build) -> None:
    tied, parted = build(generator=None), build()
    assert count(tied) < count(parted)
    assert tied.network.generator_shape == tied.network.shape
    assert all(loss > 0 for loss in losses(tied))


def test_the_other_objective_has_the_shape_of_the_discriminator(build: Build) -> None:
    network = build(objective="mlm").network
    assert isinstance(network, MaskedLanguageModel)
    assert network.shape == build().network.shape


def test_equal_seeds_give_equal_weights_and_another_seed_others(build: Build) -> None:
    first, again, other = weights(build(seed=1)), weights(build(seed=1)), weights(build(seed=2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["embeddings.word.weight"], other["embeddings.word.weight"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"objective": "bert"}, r"objective must be one of electra, mlm, but got 'bert'"),
        ({"initialization": "random"}, r"initialization must be one of .*local.*, but got 'random'"),
        ({"precision": "fp8"}, r"precision must be one of .*, but got 'fp8'"),
        ({"dropout": 1.0}, r"dropout must be at least 0 and below 1, but got 1\.0"),
        ({"window": 4}, r"window must be at least 8 pieces, but got 4"),
        (
            {"discriminator": {**DISCRIMINATOR, "widht": 16}},
            r"\[model\.discriminator\] has an unknown key 'widht': did you mean 'width'\?",
        ),
        (
            {"generator": {**GENERATOR, "embedding": 12}},
            r"\[model\.generator\] has an unknown key 'embedding'.*Valid are feed_forward, heads, layers, width",
        ),
        ({"generator": {"layers": 1}}, r"\[model\.generator\] lacks the keys 'width', 'feed_forward', 'heads'"),
        (
            {"generator": {**GENERATOR, "heads": 0}},
            r"\[model\.generator\] heads must be a whole number from 1 .*got 0",
        ),
        ({"discriminator": {**DISCRIMINATOR, "heads": 3}}, r"width must be a multiple of heads"),
    ],
)
def test_a_wrong_setting_is_refused_by_its_name(build: Build, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(**settings)


def test_the_nearest_valid_key_is_named() -> None:
    with pytest.raises(ValueError, match=r"\[x\] has an unknown key 'epochs': did you mean 'max_epochs'\?"):
        check_keys(["epochs"], valid=["max_steps", "max_epochs"], required=[], where="[x]")


def test_all_unknown_and_all_missing_keys_are_named() -> None:
    with pytest.raises(ValueError, match=r"2 unknown keys: 'epochs' .*'max_epochs'\?\), 'x'\."):
        check_keys(["epochs", "x"], valid=["max_steps", "max_epochs"], required=[], where="[x]")
    with pytest.raises(ValueError, match=r"\[x\] lacks the keys 'a', 'b'"):
        check_keys([], valid=["a", "b"], required=["a", "b"], where="[x]")


def test_a_loss_weighs_as_much_as_it_is_told_to(build: Build) -> None:
    """Twice the weights give twice the gradients; without the discriminator's loss its head gets none."""
    model = build()
    network = model.network

    def gradients(generator: float, discriminator: float) -> dict[str, Tensor]:
        network.zero_grad(set_to_none=True)
        _, backprop = model.begin_update(batch())
        backprop(LossWeights(torch.tensor(generator), torch.tensor(discriminator)))
        return {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}

    once, twice, alone = gradients(0.5, 3.0), gradients(1.0, 6.0), gradients(0.5, 0.0)
    for name, gradient in once.items():
        torch.testing.assert_close(2 * gradient, twice[name])
    assert once["replaced_head.score.bias"].abs().sum() > 0
    assert alone["replaced_head.score.bias"].abs().sum() == 0
    torch.testing.assert_close(alone["masked_head.bias"], once["masked_head.bias"])


def test_dropout_belongs_to_training_and_to_the_row(build: Build) -> None:
    model, plain = build(dropout=0.5), build()
    assert losses(model) == losses(model)
    assert losses(model) != losses(plain)
    assert torch.equal(model.predict(batch()).discriminator.logits, plain.predict(batch()).discriminator.logits)
    other, _ = model.begin_update(Batch(rows=batch(seed=9).rows, masked=batch().masked))
    assert other.generator.loss.item() != losses(model)[0]


def test_a_prediction_cannot_be_trained_on(build: Build) -> None:
    _, backprop = build()(batch(), is_train=False)
    with pytest.raises(ValueError, match="use begin_update"):
        backprop(LossWeights(torch.tensor(1.0), torch.tensor(1.0)))


def test_a_copy_predicts_the_same_with_weights_of_its_own(build: Build) -> None:
    model = build()
    copied, before = model.copy(), weights(model)
    assert copied.predict(batch()).generator.loss == model.predict(batch()).generator.loss
    with torch.no_grad():
        copied.network.embeddings.word.weight.add_(1.0)
    assert torch.equal(model.network.embeddings.word.weight, before["embeddings.word.weight"])
    assert not torch.equal(copied.network.embeddings.word.weight, model.network.embeddings.word.weight)


def test_the_window_is_told_to_whoever_lays_out_the_rows(build: Build) -> None:
    assert build(window=24).attrs["window"] == 24


# Going on from saved weights


@pytest.fixture
def saved(build: Build, tokenizer_dir: Path, tmp_path: Path) -> Callable[[Pretrainer], str]:
    """Saves a model as a run does; the folder's name."""

    def save(model: Pretrainer) -> str:
        folder, network, tokenizer = tmp_path / "model-last", model.network, WordPiece.load(tokenizer_dir)
        save_discriminator(network, tokenizer, folder / "discriminator")
        if isinstance(network, Electra):
            save_generator(network, tokenizer, folder / "generator")
        return str(folder)

    return save


@pytest.mark.parametrize("objective", ["electra", "mlm"])
def test_a_run_goes_on_from_the_weights_of_another(
    build: Build, saved: Callable[[Pretrainer], str], objective: str
) -> None:
    model = build(objective=objective, seed=1)
    optimizer = adamw_v1(0.01)
    output, backprop = model.begin_update(batch())
    backprop(LossWeights(1 / output.generator.count, torch.tensor(0.1)))
    model.finish_update(optimizer)
    trained = weights(model)
    fresh, loaded = build(objective=objective, seed=2), build(objective=objective, seed=2, init=saved(model))
    assert any(not torch.equal(trained[name], tensor) for name, tensor in weights(fresh).items())
    for name, tensor in weights(loaded).items():
        saved_rows = slice(25 if name in VOCABULARY_LONG else None)  # padding is cut off
        assert torch.equal(trained[name][saved_rows], tensor[saved_rows]), name


def test_a_guess_never_falls_on_padding(build: Build) -> None:
    output, _ = build().begin_update(batch())
    chances = output.generator.logits.softmax(dim=-1)
    assert chances.shape[-1] == 64
    assert not chances[..., 25:].any()
    assert output.generator.samples.max() < 25


def test_weights_of_another_shape_are_refused_by_the_numbers_that_differ(
    build: Build, saved: Callable[[Pretrainer], str]
) -> None:
    folder = saved(build())
    with pytest.raises(ValueError, match=r"feed_forward=32 \(saved: 24\)"):
        build(init=folder, discriminator={**DISCRIMINATOR, "feed_forward": 32})


def test_weights_of_another_vocabulary_are_transplanted(
    build: Build, saved: Callable[[Pretrainer], str], tmp_path: Path
) -> None:
    first = build()
    other = write_vocabulary(tmp_path / "other", prefix="x")
    model = build(init=saved(first), tokenizer=str(other))
    old, new = first.network.embeddings.word.weight, model.network.embeddings.word.weight
    assert torch.equal(new[:5], old[:5])  # the special pieces, which both have
    assert model.attrs["fresh"] == []


def test_layers_are_chosen_by_number(build: Build, saved: Callable[[Pretrainer], str]) -> None:
    first = build()
    layers = first.shims[0].module.shape.layers
    model = build(init=saved(first), init_layers=[layers - 1], discriminator={**DISCRIMINATOR, "layers": 1})
    last, only = first.network.discriminator.blocks[-1], model.network.discriminator.blocks[0]
    assert torch.equal(last.norm1.weight, only.norm1.weight)
    assert torch.equal(last.attention.qkv.weight, only.attention.qkv.weight)


def test_a_window_longer_than_the_saved_positions_is_refused(build: Build, saved: Callable[[Pretrainer], str]) -> None:
    folder = saved(build())
    assert build(init=folder, window=12).attrs["window"] == 12
    with pytest.raises(ValueError, match=r"window=24 is longer than the 16 positions .* Set model\.window to 16"):
        build(init=folder, window=24)


@pytest.mark.parametrize("detaches", [True, False])
def test_whether_output_embeddings_are_detached_is_a_setting(build: Build, detaches: bool) -> None:
    assert build(detach_output_embeddings=detaches).network.detaches_output is detaches


def test_layers_of_nothing_are_refused(build: Build) -> None:
    with pytest.raises(ValueError, match="there is no init to take layers of"):
        build(init_layers=[0, 1])
