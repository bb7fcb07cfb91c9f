"""Training through `nlp.update` against the same steps written by hand on Hugging Face's `ElectraModel`."""

import numpy as np
import pytest
import spacy
import torch
from spacy.training import Example
from spacy.training.loop import train_while_improving
from torch.nn import functional as F
from transformers import ElectraModel, ElectraTokenizerFast

from spacy_electra.model.optim.adamw import adamw_v1
from spacy_electra.pipeline.transformer import shim_of_transformer

RATE, L2, CLIP, B1, B2, EPS = 2e-3, 0.1, 0.5, 0.9, 0.99, 1e-6


SETTINGS = {"learn_rate": RATE, "L2": L2, "grad_clip": CLIP, "beta1": B1, "beta2": B2, "eps": EPS}


def our_optimizer():
    return adamw_v1(**SETTINGS)


class ByHand:
    """Encoder and linear head, the encoder updated by the paper's AdamW, the head by the formula of thinc's Adam."""

    def __init__(self, model_dir, nlp):
        self.encoder = ElectraModel.from_pretrained(model_dir).eval()  # no dropout
        self.tokenizer = ElectraTokenizerFast.from_pretrained(model_dir)
        self.head = [torch.tensor(tagger_softmax(nlp).get_param(name), requires_grad=True) for name in ("W", "b")]
        self.labels = nlp.get_pipe("tagger").labels
        self.moments, self.steps = {}, 0

    def parameters(self):
        yield from self.encoder.named_parameters()
        yield from zip(("head.W", "head.b"), self.head, strict=True)

    def token_vectors(self, doc):
        read = self.tokenizer(doc.text, return_tensors="pt", return_offsets_mapping=True)
        offsets = read.pop("offset_mapping")[0].tolist()
        vectors = self.encoder(**read).last_hidden_state[0]
        mine = [[n for n, (a, b) in enumerate(offsets) if a < t.idx + len(t) and b > t.idx] for t in doc]
        return torch.stack([vectors[pieces].mean(0) for pieces in mine])

    def backward(self, examples):
        for eg in examples:
            gold = torch.tensor([self.labels.index(t.tag_) for t in eg.reference])
            scores = F.linear(self.token_vectors(eg.predicted), *self.head)
            F.cross_entropy(scores, gold, reduction="sum").backward()

    @torch.no_grad()
    def step(self):
        self.steps += 1
        norm = torch.cat([p.grad.flatten() for p in self.encoder.parameters() if p.grad is not None]).norm()
        for name, p in self.parameters():
            if p.grad is None:
                continue
            mean, square = self.moments.setdefault(name, (torch.zeros_like(p), torch.zeros_like(p)))
            is_head = name.startswith("head")
            grad = p.grad * min(1.0, CLIP / (p.grad.norm() if is_head else norm).item())
            mean.mul_(B1).add_(grad, alpha=1 - B1)
            square.mul_(B2).addcmul_(grad, grad, value=1 - B2)
            if is_head:
                p -= RATE * (1 - B2**self.steps) ** 0.5 / (1 - B1**self.steps) * mean / (square.sqrt() + EPS)
                p -= RATE * L2 * p
            else:
                decay = 0.0 if name.endswith("bias") or "LayerNorm" in name else L2
                p -= RATE * (mean / (square.sqrt() + EPS) + decay * p)
            p.grad = None


def tagger_softmax(nlp):
    return next(n for n in nlp.get_pipe("tagger").model.walk() if n.has_param("W"))


def turn_head(nlp):
    """spaCy's head begins with zeros, through which no gradient reaches the encoder in the first step."""
    node = tagger_softmax(nlp)
    node.set_param("W", np.random.default_rng(3).normal(0, 0.3, node.get_param("W").shape).astype("f"))
    return nlp


def assert_same(nlp, by_hand, texts):
    for text in texts:
        doc = nlp(text)
        data = doc._.trf_data
        with torch.no_grad():
            wanted = by_hand.encoder(**by_hand.tokenizer(text, return_tensors="pt")).last_hidden_state[0, 1:-1].numpy()
        np.testing.assert_allclose(data.tensors[0][0], wanted, atol=2e-4)
    for name, wanted in zip(("W", "b"), by_hand.head, strict=True):
        np.testing.assert_allclose(tagger_softmax(nlp).get_param(name), wanted.detach().numpy(), atol=2e-5)


@pytest.fixture
def start(make_nlp):
    return turn_head(make_nlp())


def test_update_with_an_optimizer_is_the_loop_by_hand(start, model_dir, examples_of):
    by_hand, optimizer = ByHand(model_dir, start), our_optimizer()
    examples = examples_of(start)
    for _ in range(3):
        start.update(examples, sgd=optimizer)
        by_hand.backward(examples)
        by_hand.step()
    assert_same(start, by_hand, [eg.text for eg in examples])


def test_update_after_loading_is_the_loop_by_hand(start, model_dir, examples_of, tmp_path):
    start.to_disk(tmp_path)
    nlp = spacy.load(tmp_path)
    by_hand, optimizer = ByHand(model_dir, nlp), our_optimizer()
    examples = examples_of(nlp)
    for _ in range(2):
        nlp.update(examples, sgd=optimizer)
        by_hand.backward(examples)
        by_hand.step()
    assert_same(nlp, by_hand, [eg.text for eg in examples])


@pytest.mark.parametrize("is_loaded", [False, True])
def test_update_with_the_optimizer_of_its_config_is_the_loop_by_hand(
    make_nlp, model_dir, examples_of, tmp_path, is_loaded
):
    nlp = make_nlp()
    nlp.config["training"]["optimizer"] = {"@optimizers": "spacy-electra.AdamW.v1", **SETTINGS}
    nlp.initialize(lambda: examples_of(nlp))
    turn_head(nlp)
    if is_loaded:
        nlp.to_disk(tmp_path)
        nlp = spacy.load(tmp_path)
    by_hand, examples = ByHand(model_dir, nlp), examples_of(nlp)
    for _ in range(3):
        nlp.update(examples)
        by_hand.backward(examples)
        by_hand.step()
    assert_same(nlp, by_hand, [eg.text for eg in examples])


def test_accumulated_updates_are_the_loop_by_hand(start, model_dir, examples_of):
    by_hand, optimizer = ByHand(model_dir, start), our_optimizer()
    examples = examples_of(start)
    for _ in range(2):
        for part in (examples[:1], examples[1:]):
            start.update(part, sgd=False)
            by_hand.backward(part)
        for _, component in start.pipeline:
            component.finish_update(optimizer)
        by_hand.step()
    assert_same(start, by_hand, [eg.text for eg in examples])


def test_spacys_training_loop_after_loading_is_the_loop_by_hand(start, model_dir, examples_of, tmp_path):
    start.to_disk(tmp_path)
    nlp = spacy.load(tmp_path)
    by_hand, examples = ByHand(model_dir, nlp), examples_of(nlp)
    steps = train_while_improving(
        nlp,
        our_optimizer(),
        [(0, examples)] * 3,
        lambda: (0.0, {}),
        dropout=0.0,
        eval_frequency=1,
        accumulate_gradient=2,
        patience=0,
        max_steps=0,
        exclude=[],
        annotating_components=[],
        before_update=None,
    )
    for _ in steps:
        by_hand.backward(examples)
        by_hand.step()
    assert by_hand.steps == 3
    assert_same(nlp, by_hand, [eg.text for eg in examples])


def test_a_private_encoder_is_the_loop_by_hand(start, model_dir, examples_of):
    start.replace_listeners("transformer", "tagger", ["model.tok2vec"])
    by_hand, optimizer = ByHand(model_dir, start), our_optimizer()
    examples = examples_of(start)
    for _ in range(2):
        start.update(examples, sgd=optimizer, exclude=["transformer"])
        by_hand.backward(examples)
        by_hand.step()
    docs = [eg.predicted for eg in examples]
    mine = start.get_pipe("tagger").model.get_ref("tok2vec").predict(docs)
    for doc, got in zip(docs, mine, strict=True):
        with torch.no_grad():
            np.testing.assert_allclose(got, by_hand.token_vectors(doc).numpy(), atol=2e-4)


def test_long_documents_train_through_every_window(make_nlp):
    """The gradient of a sum over all tokens reaches as many word embeddings as there are pieces."""
    nlp = make_nlp(window=12)
    model = nlp.get_pipe("transformer").model
    doc = nlp.make_doc("the encoder reads pieces not words unbelievably he paid for two apples in new york " * 2)
    batch, backprop = model.begin_update([doc])
    data = batch.doc_data[0]
    random = np.random.default_rng(0).normal(size=data.tensors[0].shape).astype("f")
    backprop(batch.unsplit_by_doc([[random]]))
    gradient = shim_of_transformer(model).module.embeddings.word.weight.grad
    assert set(np.unique(data.wordpieces.input_ids)) <= set(gradient.abs().sum(1).nonzero().flatten().tolist())


def test_learning_lowers_the_loss_and_moves_the_encoder(make_nlp, examples_of):
    nlp = make_nlp(dropout=0.1)
    shim = shim_of_transformer(nlp.get_pipe("transformer").model)
    before = {name: p.clone() for name, p in shim.module.named_parameters()}
    examples, optimizer = examples_of(nlp), adamw_v1(1e-3)
    losses = [nlp.update(examples, sgd=optimizer)["tagger"] for _ in range(60)]
    assert losses[-1] < 0.2 * losses[0]
    unmoved = [name for name, p in shim.module.named_parameters() if torch.equal(p, before[name])]
    assert unmoved == []
    assert nlp.evaluate(examples)["tag_acc"] > 0.95


def test_bf16_training_learns_too(make_nlp, examples_of):
    nlp = make_nlp(precision="bf16")
    examples, optimizer = examples_of(nlp), adamw_v1(3e-3)
    losses = [nlp.update(examples, sgd=optimizer)["tagger"] for _ in range(40)]
    assert losses[-1] < 0.4 * losses[0]


def test_dropout_acts_in_training_alone(make_nlp, examples_of):
    nlp = make_nlp(dropout=0.5)
    docs = [eg.predicted for eg in examples_of(nlp)]
    model = nlp.get_pipe("transformer").model
    torch.manual_seed(0)
    dropped = [model.begin_update(docs)[0].vectors for _ in range(2)]
    predicted = [model.predict(docs).vectors for _ in range(2)]
    assert not torch.allclose(dropped[0], dropped[1], atol=1e-3)
    assert torch.equal(predicted[0], predicted[1])


def test_a_frozen_annotating_transformer_stays_and_feeds_its_listeners(nlp, examples_of):
    before = nlp.get_pipe("transformer").model.to_bytes()
    examples, optimizer = examples_of(nlp), adamw_v1(1e-2)
    kwargs = {"sgd": optimizer, "exclude": ["transformer"], "annotates": ["transformer"]}
    losses = [nlp.update(examples, **kwargs)["tagger"] for _ in range(30)]
    assert losses[-1] < 0.9 * losses[0]
    assert nlp.get_pipe("transformer").model.to_bytes() == before


def test_a_batch_with_an_empty_document_trains(nlp):
    optimizer = adamw_v1(1e-3)
    texts = [("the cat", ["SHORT", "SHORT"]), ("", []), ("encoder", ["LONG"])]
    examples = [Example.from_dict(nlp.make_doc(text), {"tags": tags}) for text, tags in texts]
    losses = [nlp.update(examples, sgd=optimizer)["tagger"] for _ in range(3)]
    assert losses[-1] < losses[0]
