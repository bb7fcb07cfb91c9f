"""Our arithmetic against Hugging Face's, number by number. The table of names here is not the library's."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import ElectraConfig, ElectraForMaskedLM, ElectraForPreTraining, ElectraModel

from spacy_electra.data.batch import Rows, Special
from spacy_electra.data.batches.masking import mask_rows
from spacy_electra.data.rng import row_keys
from spacy_electra.model.network.attention import within_lengths, within_segments
from spacy_electra.model.network.electra import Electra
from spacy_electra.model.network.encoder import Body, Embeddings, Encoder, EncoderShape
from spacy_electra.model.network.heads import MaskedLMHead, ReplacedTokenHead

VOCAB, POSITIONS = 500, 40
SPECIAL = Special(pad=0, unk=1, cls=2, sep=3, mask=4)
DISCRIMINATORS = {
    "tiny": EncoderShape(4, 128, 512, 2, 128, VOCAB, POSITIONS),
    "small": EncoderShape(12, 256, 1024, 4, 128, VOCAB, POSITIONS),
}
GENERATORS = {
    "tiny": EncoderShape(4, 64, 256, 1, 128, VOCAB, POSITIONS),
    "small": EncoderShape(12, 64, 256, 1, 128, VOCAB, POSITIONS),
}
LENGTHS = {"full": [24, 24, 24], "padded": [24, 7, 16]}
Pair = tuple[str, Tensor, list[Tensor]]


def theirs_of(shape: EncoderShape) -> ElectraConfig:
    return ElectraConfig(
        vocab_size=shape.vocab,
        embedding_size=shape.embedding,
        hidden_size=shape.width,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        intermediate_size=shape.feed_forward,
        max_position_embeddings=shape.positions,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )


def randomize(model: nn.Module, seed: int) -> None:
    """Weights, biases and norms that are all far from what they start as."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(1.0 if "LayerNorm.weight" in name else 0.0, 0.08)


def module_pairs(name: str, ours: nn.Module, *theirs: nn.Module) -> Iterator[Pair]:
    for part in ("weight", "bias"):
        if hasattr(ours, part):
            yield f"{name}.{part}", getattr(ours, part), [getattr(module, part) for module in theirs]


def embedding_pairs(ours: Embeddings, theirs: nn.Module) -> Iterator[Pair]:
    yield from module_pairs("word", ours.word, theirs.word_embeddings)
    yield from module_pairs("position", ours.position, theirs.position_embeddings)
    yield from module_pairs("token_type", ours.token_type, theirs.token_type_embeddings)
    yield from module_pairs("norm", ours.norm, theirs.LayerNorm)


def body_pairs(ours: Body, theirs: ElectraModel) -> Iterator[Pair]:
    yield from module_pairs("project", ours.project, getattr(theirs, "embeddings_project", None))
    for number, (block, layer) in enumerate(zip(ours.blocks, theirs.encoder.layer, strict=True)):
        attention = layer.attention.self
        yield from module_pairs(f"{number}.qkv", block.attention.qkv, attention.query, attention.key, attention.value)
        yield from module_pairs(f"{number}.output", block.attention.output, layer.attention.output.dense)
        yield from module_pairs(f"{number}.norm1", block.norm1, layer.attention.output.LayerNorm)
        yield from module_pairs(f"{number}.up", block.feed_forward.up, layer.intermediate.dense)
        yield from module_pairs(f"{number}.down", block.feed_forward.down, layer.output.dense)
        yield from module_pairs(f"{number}.norm2", block.norm2, layer.output.LayerNorm)


def masked_head_pairs(ours: MaskedLMHead, theirs: ElectraForMaskedLM) -> Iterator[Pair]:
    yield from module_pairs("masked.dense", ours.dense, theirs.generator_predictions.dense)
    yield from module_pairs("masked.norm", ours.norm, theirs.generator_predictions.LayerNorm)
    yield "masked.bias", ours.bias, [theirs.generator_lm_head.bias]


def replaced_head_pairs(ours: ReplacedTokenHead, theirs: ElectraForPreTraining) -> Iterator[Pair]:
    yield from module_pairs("replaced.dense", ours.dense, theirs.discriminator_predictions.dense)
    yield from module_pairs("replaced.score", ours.score, theirs.discriminator_predictions.dense_prediction)


@torch.no_grad()
def copy(pairs: Iterator[Pair]) -> None:
    for _, ours, theirs in pairs:
        ours.copy_(torch.cat(theirs))


def encoder_like(theirs: ElectraModel, shape: EncoderShape) -> Encoder:
    encoder = Encoder(shape)
    copy(embedding_pairs(encoder.embeddings, theirs.embeddings))
    copy(body_pairs(encoder.body, theirs))
    return encoder


def pieces(lengths: list[int]) -> tuple[Tensor, Tensor]:
    """Random pieces (B, T) and where they are real (B, T)."""
    torch.manual_seed(3)
    real = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    return torch.where(real, torch.randint(5, VOCAB, real.shape), SPECIAL.pad), real


@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
@pytest.mark.parametrize("size", DISCRIMINATORS)
def test_encoder_equals_electra_model(size: str, lengths: list[int]):
    shape = DISCRIMINATORS[size]
    theirs = ElectraModel(theirs_of(shape)).eval()
    randomize(theirs, seed=1)
    ids, real = pieces(lengths)
    mask = within_lengths(torch.tensor(lengths), ids.shape[1])
    assert (mask is None) == (lengths == LENGTHS["full"])
    with torch.no_grad():
        expected = theirs(ids, attention_mask=real.long()).last_hidden_state
        got = encoder_like(theirs, shape)(ids, mask=mask)
    torch.testing.assert_close(got[real], expected[real], rtol=0, atol=1e-5)


def test_types_and_positions_reach_the_encoder_as_in_electra_model():
    shape = DISCRIMINATORS["tiny"]
    theirs = ElectraModel(theirs_of(shape)).eval()
    randomize(theirs, seed=1)
    ids, _ = pieces([12, 12])
    types = (torch.arange(12) > 6).long().expand_as(ids)
    positions = torch.arange(12).flip(0).expand_as(ids)
    with torch.no_grad():
        expected = theirs(ids, token_type_ids=types, position_ids=positions).last_hidden_state
        got = encoder_like(theirs, shape)(ids, types=types, positions=positions)
        plain = theirs(ids).last_hidden_state
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-5)
    assert (plain - expected).abs().max() > 0.1


@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
@pytest.mark.parametrize("size", GENERATORS)
def test_generator_logits_equal_electra_for_masked_lm(size: str, lengths: list[int]):
    shape = GENERATORS[size]
    theirs = ElectraForMaskedLM(theirs_of(shape)).eval()
    randomize(theirs, seed=2)
    encoder, head = encoder_like(theirs.electra, shape), MaskedLMHead(shape)
    copy(masked_head_pairs(head, theirs))
    ids, real = pieces(lengths)
    with torch.no_grad():
        expected = theirs(ids, attention_mask=real.long()).logits
        hidden = encoder(ids, mask=within_lengths(torch.tensor(lengths), ids.shape[1]))
        got = head(hidden, encoder.embeddings.word.weight)
    torch.testing.assert_close(got[real], expected[real], rtol=0, atol=1e-5)


@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
@pytest.mark.parametrize("size", DISCRIMINATORS)
def test_discriminator_logits_equal_electra_for_pretraining(size: str, lengths: list[int]):
    shape = DISCRIMINATORS[size]
    theirs = ElectraForPreTraining(theirs_of(shape)).eval()
    randomize(theirs, seed=4)
    encoder, head = encoder_like(theirs.electra, shape), ReplacedTokenHead(shape)
    copy(replaced_head_pairs(head, theirs))
    ids, real = pieces(lengths)
    with torch.no_grad():
        expected = theirs(ids, attention_mask=real.long()).logits
        got = head(encoder(ids, mask=within_lengths(torch.tensor(lengths), ids.shape[1])))
    torch.testing.assert_close(got[real], expected[real], rtol=0, atol=1e-5)


def padded_rows() -> Rows:
    """One document a row, some padded, each between [CLS] and [SEP]; the second half of each is of type 1."""
    lengths = [24, 9, 17, 24]
    ids, real = pieces(lengths)
    ids[:, 0] = SPECIAL.cls
    for row, length in enumerate(lengths):
        ids[row, length - 1] = SPECIAL.sep
    positions = torch.arange(24).expand_as(ids).contiguous()
    number = torch.arange(len(lengths))
    return Rows(
        ids=ids,
        types=((positions > 11) & real).long(),
        segments=real.long(),
        positions=positions,
        keys=row_keys(0, epoch=torch.zeros_like(number), row=number),
    )


def reference_halves(size: str, dtype: torch.dtype) -> tuple[ElectraForMaskedLM, ElectraForPreTraining]:
    """Hugging Face's two halves over one set of embeddings, tied by hand."""
    generator = ElectraForMaskedLM(theirs_of(GENERATORS[size]))
    discriminator = ElectraForPreTraining(theirs_of(DISCRIMINATORS[size]))
    randomize(generator, seed=5)
    randomize(discriminator, seed=6)
    generator.electra.embeddings = discriminator.electra.embeddings
    generator.tie_weights()
    assert generator.generator_lm_head.weight is discriminator.electra.embeddings.word_embeddings.weight
    return generator.to(dtype), discriminator.to(dtype)


def electra_pairs(ours: Electra, generator: ElectraForMaskedLM, discriminator: ElectraForPreTraining) -> Iterator[Pair]:
    parts = {
        "embeddings": embedding_pairs(ours.embeddings, discriminator.electra.embeddings),
        "generator": body_pairs(ours.generator, generator.electra),
        "masked_head": masked_head_pairs(ours.masked_head, generator),
        "discriminator": body_pairs(ours.discriminator, discriminator.electra),
        "replaced_head": replaced_head_pairs(ours.replaced_head, discriminator),
    }
    for part, pairs in parts.items():
        yield from ((f"{part}.{name}", mine, theirs) for name, mine, theirs in pairs)


@pytest.mark.parametrize(("dtype", "share"), [(torch.float32, 1e-4), (torch.float64, 1e-9)], ids=["fp32", "fp64"])
@pytest.mark.parametrize("size", ["tiny", "small"])
def test_joint_loss_and_every_gradient_equal_a_hugging_face_step(size: str, dtype: torch.dtype, share: float):
    generator, discriminator = reference_halves(size, dtype)
    ours = Electra(generator=GENERATORS[size], discriminator=DISCRIMINATORS[size]).to(dtype)
    copy(electra_pairs(ours, generator, discriminator))
    rows = padded_rows()
    masked = mask_rows(rows, SPECIAL, rate=0.3, unmasked_fraction=0.15)
    assert masked.positions.weight.min() == 0, "some row must have fewer positions than there is room for"

    output = ours(rows, masked, vocab_size=VOCAB)
    guessed, judged = output.generator, output.discriminator
    loss = guessed.loss / guessed.count + 50 * judged.loss / judged.count
    loss.backward()

    real = rows.segments.bool()
    places = [
        (row, int(column), int(sample))
        for row in range(len(rows))
        for column, sample, weight in zip(
            masked.positions.index[row], guessed.samples[row], masked.positions.weight[row], strict=True
        )
        if weight
    ]
    seen = {"attention_mask": real.long(), "token_type_ids": rows.types, "position_ids": rows.positions}
    scores = generator(masked.ids, **seen).logits
    at = torch.tensor([place[0] for place in places]), torch.tensor([place[1] for place in places])
    expected = F.cross_entropy(scores[at], rows.ids[at])
    corrupted = rows.ids.clone()
    for row, column, sample in places:
        corrupted[row, column] = sample
    verdict = discriminator(corrupted, **seen).logits[real]
    expected = expected + 50 * F.binary_cross_entropy_with_logits(verdict, (corrupted != rows.ids)[real].to(dtype))
    expected.backward()

    torch.testing.assert_close(loss, expected, rtol=2e-6, atol=0)
    compared = 0
    for name, mine, theirs in electra_pairs(ours, generator, discriminator):
        wanted = torch.cat([tensor.grad for tensor in theirs])
        limit = share * max(wanted.abs().max().item(), 1e-3)  # the keys' biases have no gradient but rounding
        assert (mine.grad - wanted).abs().max() <= limit, (
            f"{name}: {(mine.grad - wanted).abs().max():.2e} > {limit:.2e}"
        )
        compared += mine.numel()
    assert compared == sum(parameter.numel() for parameter in ours.parameters())


def test_packed_documents_equal_the_same_documents_one_by_one():
    shape = DISCRIMINATORS["tiny"]
    theirs = ElectraModel(theirs_of(shape)).eval()
    randomize(theirs, seed=7)
    encoder = encoder_like(theirs, shape)
    lengths = [9, 4, 7]
    documents = [torch.randint(5, VOCAB, (1, n), generator=torch.Generator().manual_seed(n)) for n in lengths]
    row = F.pad(torch.cat(documents, dim=1), (0, 4), value=SPECIAL.pad)
    positions = F.pad(torch.cat([torch.arange(n) for n in lengths])[None], (0, 4))
    segments = F.pad(torch.cat([torch.full((n,), i + 1) for i, n in enumerate(lengths)])[None], (0, 4))
    with torch.no_grad():
        packed = encoder(row, positions=positions, mask=within_segments(segments))
        alone = [theirs(document).last_hidden_state for document in documents]
        unmasked = encoder(row, positions=positions)
    torch.testing.assert_close(packed[:, :20], torch.cat(alone, dim=1), rtol=0, atol=1e-5)
    assert (unmasked - packed)[:, :20].abs().max() > 0.01
