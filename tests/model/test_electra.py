"""The rules of the algorithm, each on a batch small enough to follow (Clark et al. 2020, section 3)."""

import copy
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from spacy_electra.data.batch import Rows, Special
from spacy_electra.data.batches.masking import Masked, Positions, mask_rows
from spacy_electra.data.rng import Purpose, random_uniform, row_keys
from spacy_electra.model.init.schemes import initialize
from spacy_electra.model.network.electra import (
    Corrupted,
    Electra,
    MaskedLanguageModel,
    corrupt,
    discriminator_output,
    generator_output,
)
from spacy_electra.model.network.encoder import EncoderShape
from spacy_electra.model.network.heads import MaskedLMHead
from spacy_electra.model.network.sampling import CrossEntropy, draw
from spacy_electra.model.optim.adamw import AdamW, Hyperparameters, adamw_v1
from spacy_electra.model.optim.parameter_groups import parameter_groups

SPECIAL = Special(pad=0, unk=1, cls=2, sep=3, mask=4)
SIZE, PADDED = 20, 24  # pieces of the tokenizer, rows of the vocabulary
SHAPE = EncoderShape(layers=1, width=8, feed_forward=16, heads=2, embedding=6, vocab=PADDED, positions=10)
GENERATOR = EncoderShape(layers=1, width=4, feed_forward=8, heads=1, embedding=6, vocab=PADDED, positions=10)
IDS = torch.tensor([[2, 5, 6, 7, 8, 9, 10, 11, 12, 3], [2, 13, 14, 15, 16, 17, 3, 0, 0, 0]])


def sample_pieces(logits: Tensor, *, chance: Tensor, vocab_size: int) -> Tensor:
    """One piece (N,) for each row of scores (N, V), of the first `vocab_size`, as the generator draws them."""
    return draw(logits.softmax(dim=-1), chance=chance, size=vocab_size)


def two_rows() -> Rows:
    number = torch.arange(2)
    return Rows(
        ids=IDS,
        types=torch.zeros_like(IDS),
        segments=(IDS > 0).long(),
        positions=torch.arange(10).expand_as(IDS),
        keys=row_keys(0, epoch=torch.zeros_like(number), row=number),
    )


def masked_rows() -> Masked:
    return mask_rows(two_rows(), SPECIAL, rate=0.4, unmasked_fraction=0.15)


def electra() -> Electra:
    model = Electra(generator=GENERATOR, discriminator=SHAPE)
    initialize(model, kind="fan_in", seed=0)
    return model


def test_a_lucky_sample_is_not_replaced():
    positions = Positions(index=torch.tensor([[1, 2, 4], [1, 3, 5]]), weight=torch.ones(2, 3))
    samples = torch.tensor([[5, 19, 8], [13, 15, 18]])  # 5, 8, 13 and 15 stood there already
    corrupted = corrupt(IDS, positions, samples)
    assert corrupted.is_replaced.nonzero().tolist() == [[0, 2], [1, 5]]
    assert corrupted.ids[0].tolist() == [2, 5, 19, 7, 8, 9, 10, 11, 12, 3]
    assert corrupted.ids[1].tolist() == [2, 13, 14, 15, 16, 18, 3, 0, 0, 0]


def test_a_place_that_only_fills_the_batch_is_not_replaced():
    positions = Positions(index=torch.tensor([[1, 2], [1, 8]]), weight=torch.tensor([[1.0, 1.0], [1.0, 0.0]]))
    corrupted = corrupt(IDS, positions, torch.full((2, 2), 19))
    assert corrupted.is_replaced.nonzero().tolist() == [[0, 1], [0, 2], [1, 1]]
    assert corrupted.ids[1, 8] == SPECIAL.pad


def test_the_discriminator_reads_the_original_row_without_any_mask():
    masked = masked_rows()
    assert (masked.ids == SPECIAL.mask).sum() >= 3
    samples = torch.full_like(masked.original, 19)
    corrupted = electra()(two_rows(), masked, vocab_size=SIZE, samples=samples).corrupted
    expected = IDS.clone()
    for row in range(2):
        for place, weight in zip(masked.positions.index[row], masked.positions.weight[row], strict=True):
            if weight:
                expected[row, place] = 19
    assert torch.equal(corrupted.ids, expected)


def test_samples_equal_to_the_hidden_pieces_restore_the_row_with_nothing_replaced():
    masked = masked_rows()
    corrupted = electra()(two_rows(), masked, vocab_size=SIZE, samples=masked.original).corrupted
    assert torch.equal(corrupted.ids, IDS)
    assert not torch.equal(masked.ids, IDS)
    assert not corrupted.is_replaced.any()


def test_the_discriminators_loss_gives_the_generator_no_gradient():
    model = electra()
    output = model(two_rows(), masked_rows(), vocab_size=SIZE)
    assert output.corrupted.is_replaced.any()
    output.discriminator.loss.backward()
    touched = {name for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    assert not any(name.startswith(("generator.", "masked_head.")) for name in touched)
    assert {"embeddings.word.weight", "discriminator.project.weight", "replaced_head.score.weight"} <= touched


def test_the_generators_loss_gives_the_discriminator_no_gradient():
    model = electra()
    model(two_rows(), masked_rows(), vocab_size=SIZE).generator.loss.backward()
    touched = {name for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    assert not any(name.startswith(("discriminator.", "replaced_head.")) for name in touched)
    assert {"embeddings.word.weight", "generator.project.weight", "masked_head.bias"} <= touched


def test_no_piece_that_the_tokenizer_lacks_is_sampled_even_if_likelier_than_all_others():
    logits = torch.zeros(4000, PADDED)
    logits[:, SIZE:] = 5.0
    chance = torch.linspace(0, 1 - 2**-24, 4000)
    assert sample_pieces(logits, chance=chance, vocab_size=SIZE).unique().tolist() == list(range(SIZE))
    model = electra()
    with torch.no_grad():
        model.masked_head.bias[SIZE:] = 1e4
    assert model(two_rows(), masked_rows(), vocab_size=SIZE).generator.samples.max() < SIZE


@pytest.mark.parametrize("scale", [1.0, 300.0])
def test_the_cross_entropy_and_its_gradient_are_torchs(scale: float):
    torch.manual_seed(0)
    scores = (torch.randn(7, 50) * scale).requires_grad_()
    target, weight = torch.randint(0, 50, (7,)), torch.rand(7)
    losses, probabilities = CrossEntropy.apply(scores, target)
    expected = F.cross_entropy(scores, target, reduction="none")
    torch.testing.assert_close(losses, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(probabilities, scores.softmax(dim=-1))
    assert not probabilities.requires_grad
    mine, theirs = (torch.autograd.grad((one * weight).sum(), scores)[0] for one in (losses, expected))
    assert mine.abs().max() > 0.1
    torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("size", [63, 64, 65, 200])
def test_a_sample_is_where_the_cumulative_sum_first_passes_the_chance(size: int):
    torch.manual_seed(0)
    logits, chance = torch.randn(500, size, dtype=torch.float64) * 3, torch.rand(500, dtype=torch.float64)
    heights = logits.softmax(dim=-1).cumsum(dim=-1)
    expected = (heights <= chance[:, None]).sum(dim=-1)
    drawn = sample_pieces(logits.float(), chance=chance.float(), vocab_size=size)
    assert expected.unique().numel() > 20
    assert (drawn == expected).float().mean() >= 0.99  # a chance at a border may fall to either side in float32


@pytest.mark.parametrize("size", [5, 64, 70, 129])
def test_drawing_from_the_first_columns_is_drawing_from_a_copy_of_them(size: int):
    probabilities = torch.rand(200, 192, generator=torch.Generator().manual_seed(size), dtype=torch.float64)
    chance = torch.rand(200, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    samples = draw(probabilities, chance=chance, size=size)
    assert torch.equal(samples, draw(probabilities[:, :size].clone(), chance=chance))
    assert not torch.equal(samples, draw(probabilities, chance=chance))


def test_a_piece_without_probability_is_never_sampled():
    logits = torch.tensor([[-math.inf, 0.0, -math.inf, 0.0, -math.inf]])
    chance = torch.tensor([0.0, 0.25, 0.5, 1 - 2**-24])
    drawn = sample_pieces(logits.expand(4, -1), chance=chance, vocab_size=5)
    assert drawn.tolist() == [1, 1, 3, 3]


def test_sample_frequencies_follow_the_softmax():
    logits = torch.tensor([0.0, 1.0, -1.0, 2.0, 0.5, -3.0])
    count, draws = 400, 256
    keys = row_keys(0, epoch=torch.zeros(count, dtype=torch.int64), row=torch.arange(count))
    chance = random_uniform(keys, Purpose.SAMPLE, draws).reshape(-1)
    drawn = sample_pieces(logits.expand(count * draws, -1), chance=chance, vocab_size=6)
    expected = logits.softmax(dim=0) * count * draws
    chi_square = ((torch.bincount(drawn, minlength=6) - expected) ** 2 / expected).sum()
    assert chi_square < 20.5  # exceeded once in a thousand by a fair draw, 5 degrees of freedom


def test_the_discriminators_mean_counts_cls_and_sep_and_no_padding():
    logits = torch.zeros(2, 10)
    logits[0, 0], logits[1, 6] = 2.0, -1.0  # [CLS] of the first row, [SEP] of the second
    logits[1, 7:] = 50.0  # padding
    discriminator = discriminator_output(
        logits, Corrupted(ids=IDS, is_replaced=torch.zeros(2, 10, dtype=torch.bool)), IDS > 0
    )
    assert discriminator.count == 17
    expected = 15 * math.log(2) + math.log(1 + math.exp(2.0)) + math.log(1 + math.exp(-1.0))
    assert discriminator.loss.item() == pytest.approx(expected, rel=1e-6)


def test_a_replaced_piece_costs_what_its_score_misses():
    is_replaced = torch.zeros(2, 10, dtype=torch.bool)
    is_replaced[0, 3] = True
    logits = torch.full((2, 10), -20.0)
    logits[0, 3] = 1.0
    discriminator = discriminator_output(logits, Corrupted(ids=IDS, is_replaced=is_replaced), IDS > 0)
    assert discriminator.loss.item() == pytest.approx(math.log(1 + math.exp(-1.0)), rel=1e-6)


def guesses_at(hidden: Tensor, head: MaskedLMHead, words: Tensor, positions: Positions):
    original = IDS.gather(1, positions.index)
    return generator_output(head, hidden, words, Masked(IDS, positions, original), two_rows().keys, SIZE)


def test_the_generator_answers_for_the_chosen_positions_alone():
    torch.manual_seed(0)
    head, words = MaskedLMHead(GENERATOR), torch.randn(PADDED, 6)
    hidden = torch.randn(2, 10, 4, requires_grad=True)
    positions = Positions(index=torch.tensor([[1, 4], [5, 2]]), weight=torch.tensor([[1.0, 1.0], [1.0, 0.0]]))
    generator = guesses_at(hidden, head, words, positions)
    generator.loss.backward()
    assert hidden.grad.abs().sum(dim=-1).nonzero().tolist() == [[0, 1], [0, 4], [1, 5]]
    scores = head(hidden.detach(), words)
    expected = sum(F.cross_entropy(scores[r, t], IDS[r, t]) for r, t in ((0, 1), (0, 4), (1, 5)))
    torch.testing.assert_close(generator.loss, expected)
    assert generator.count == 3


def test_a_correct_guess_is_counted_where_the_position_counts():
    head = MaskedLMHead(GENERATOR)
    with torch.no_grad():
        head.bias[16] = 1e3  # always says 16, which stands at row 1, place 4
    positions = Positions(index=torch.tensor([[1, 4], [4, 4]]), weight=torch.tensor([[1.0, 1.0], [1.0, 0.0]]))
    assert guesses_at(torch.randn(2, 10, 4), head, torch.randn(PADDED, 6), positions).correct == 1


def test_samples_differ_between_rows_and_repeat_with_the_key():
    rows, model = two_rows(), electra()
    same = Rows(rows.ids[[0, 0]], rows.types, rows.segments[[0, 0]], rows.positions, rows.keys)
    masked = mask_rows(same, SPECIAL, rate=0.9, unmasked_fraction=0.0)
    first = model(same, masked, vocab_size=SIZE).generator.samples
    assert torch.equal(first, model(same, masked, vocab_size=SIZE).generator.samples)
    assert not torch.equal(first[0], first[1])


def test_samples_do_not_depend_on_the_batch_that_a_row_is_in():
    rows, model = two_rows(), electra()
    together = model(rows, masked_rows(), vocab_size=SIZE).generator.samples
    masked = [(row, mask_rows(row, SPECIAL, rate=0.4, unmasked_fraction=0.15)) for row in rows.split(1)]
    apart = [model(row, hidden, vocab_size=SIZE).generator.samples for row, hidden in masked]
    assert torch.equal(torch.cat(apart), together)
    assert not torch.equal(apart[0], apart[1])


def test_shapes_that_cannot_share_embeddings_are_refused_by_name():
    other = EncoderShape(layers=1, width=4, feed_forward=8, heads=1, embedding=5, vocab=PADDED, positions=9)
    with pytest.raises(ValueError, match="embedding, positions"):
        Electra(generator=other, discriminator=SHAPE)


# ---- shared embeddings


def stepped(model: Electra, _: Path) -> Electra:
    model(two_rows(), masked_rows(), vocab_size=SIZE).generator.loss.backward()
    AdamW(parameter_groups(model)).step(Hyperparameters.of(adamw_v1(0.1)))
    return model


def saved_and_loaded(model: Electra, folder: Path) -> Electra:
    save_file(model.state_dict(), folder / "weights.safetensors")  # refuses tensors that share memory
    other = Electra(generator=GENERATOR, discriminator=SHAPE)
    other.load_state_dict(load_file(folder / "weights.safetensors"))
    return other


def assigned(model: Electra, folder: Path) -> Electra:
    with torch.device("meta"):
        other = Electra(generator=GENERATOR, discriminator=SHAPE)
    other.load_state_dict(model.state_dict(), assign=True)
    return other


def scores_of_both_halves(model: Electra) -> tuple[Tensor, Tensor]:
    """With the samples held fixed, so that the discriminator hears of the embeddings through no sample."""
    masked = masked_rows()
    with torch.no_grad():
        output = model(two_rows(), masked, vocab_size=SIZE, samples=masked.original)
    return output.generator.loss, output.discriminator.logits


@pytest.mark.parametrize(
    "happens",
    [
        lambda model, _: model,
        lambda model, _: copy.deepcopy(model),
        lambda model, _: model.to(torch.float64).to(torch.float32),
        stepped,
        saved_and_loaded,
        assigned,
    ],
    ids=["made", "copied", "converted", "stepped", "loaded", "assigned"],
)
def test_both_halves_and_the_output_read_one_word_embedding(
    happens: Callable[[Electra, Path], Electra], tmp_path: Path
):
    model = happens(electra(), tmp_path)
    named = dict(model.named_parameters(remove_duplicate=False))
    tables = [name for name, p in named.items() if p.shape == (PADDED, 6)]
    assert tables == ["embeddings.word.weight"]
    assert [name for name, m in model.named_modules() if isinstance(m, nn.Embedding)] == [
        f"embeddings.{table}" for table in ("word", "position", "token_type")
    ]
    generator, discriminator = scores_of_both_halves(model)
    with torch.no_grad():
        named["embeddings.word.weight"][SPECIAL.cls] += torch.randn(6)
    changed_generator, changed_discriminator = scores_of_both_halves(model)
    assert generator != changed_generator
    assert not torch.equal(discriminator, changed_discriminator)


def test_the_output_matrix_of_the_generator_is_the_word_embedding():
    model = electra()
    model(two_rows(), masked_rows(), vocab_size=SIZE).generator.loss.backward()
    unseen = sorted(set(range(5, PADDED)) - set(IDS.flatten().tolist()))
    assert model.embeddings.word.weight.grad[unseen].abs().sum(dim=1).min() > 0, (
        "only an output matrix scores all pieces"
    )


@pytest.mark.parametrize("detaches", [True, False])
@pytest.mark.parametrize("make", [electra, lambda: MaskedLanguageModel(SHAPE)], ids=["electra", "mlm"])
def test_detached_output_embeddings_move_only_the_pieces_that_are_read(
    make: Callable[[], Electra | MaskedLanguageModel], detaches: bool
):
    model, masked = make(), masked_rows()
    model.detaches_output = detaches
    output = model(two_rows(), masked, vocab_size=SIZE)
    output.generator.loss.backward()
    moved = set(model.embeddings.word.weight.grad.abs().sum(dim=1).nonzero().flatten().tolist())
    read = set(masked.ids.flatten().tolist())
    assert (moved <= read) is detaches
    assert model.masked_head.dense.weight.grad.abs().sum() > 0
