"""What a user adds to a generated pipeline works as in any other, wherever it is put."""

from pathlib import Path

import numpy as np
import pytest
import spacy
from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Example
from spacy.util import fix_random_seed

from spacy_electra.cli.configs import pipeline_config

TEXT, TAGS = "The tensor is not found.", ["A", "B", "C", "D", "E", "F"]


@pytest.fixture
def nlp(run_dir: Path) -> Language:
    """A generated pipeline with a recognizer that somebody added at its end, as spaCy's documentation does."""
    config = pipeline_config(["tagger"], size="tiny", lang="en", gpu=False, frozen=False)
    config["paths"]["discriminator"] = str(run_dir / "model-last" / "discriminator")
    nlp = spacy.util.load_model_from_config(config, auto_fill=True)
    listener = config["components"]["tagger"]["model"]["tok2vec"]
    model = {
        "@architectures": "spacy.TransitionBasedParser.v2",
        "state_type": "ner",
        "extra_state_tokens": False,
        "hidden_width": 32,
        "maxout_pieces": 2,
        "use_upper": False,
        "tok2vec": listener,
    }
    nlp.add_pipe("ner", config={"model": model})
    fix_random_seed(0)
    example = Example.from_dict(nlp.make_doc(TEXT), {"entities": [(4, 10, "THING")], "tags": TAGS})
    optimizer = nlp.initialize(lambda: [example])
    optimizer.learn_rate = 0.005
    for _ in range(120):
        losses = nlp.update([example], sgd=optimizer)
    assert losses["ner"] < 0.1
    return nlp


def annotation(doc: Doc) -> tuple[list[str], list[str]]:
    return [token.tag_ for token in doc], [ent.text for ent in doc.ents]


def test_a_component_at_the_end_predicts_what_it_learned(nlp: Language, tmp_path: Path):
    expected = (TAGS, ["tensor"])
    assert annotation(nlp(TEXT)) == expected
    assert [annotation(doc) for doc in nlp.pipe([TEXT] * 3, n_process=2)] == [expected] * 3
    nlp.to_disk(tmp_path)
    loaded = spacy.load(tmp_path)
    assert annotation(loaded(TEXT)) == expected
    assert loaded(TEXT).similarity(loaded(TEXT)) == pytest.approx(1)
    np.testing.assert_allclose(loaded(TEXT).vector, nlp(TEXT).vector, atol=1e-6)
    loaded.replace_listeners("transformer", "ner", ["model.tok2vec"])
    with loaded.select_pipes(enable="ner"):
        assert annotation(loaded(TEXT))[1] == ["tensor"]


def test_pipelines_that_were_saved_with_a_cleaner_run_as_they_did(nlp: Language, tmp_path: Path):
    nlp.add_pipe("doc_cleaner", config={"attrs": {"_.trf_data": None, "tensor": None}})
    nlp.to_disk(tmp_path)
    doc = spacy.load(tmp_path)(TEXT)
    assert annotation(doc) == (TAGS, ["tensor"])
    assert doc._.trf_data is None
    assert not doc.has_vector


@pytest.mark.filterwarnings("ignore:.*W101")  # spaCy leaves trf_data out of joined documents
def test_documents_that_were_joined_or_cut_out_say_that_they_have_no_vectors(nlp: Language):
    joined = Doc.from_docs([nlp(TEXT), nlp(TEXT)])
    part = nlp(TEXT)[1:4].as_doc(copy_user_data=True)
    for doc in (joined, part):
        assert not doc.has_vector
        assert not doc[0].has_vector


def test_a_saved_pipeline_learns_on_by_updates_in_code(nlp: Language, tmp_path: Path):
    nlp.to_disk(tmp_path)
    loaded = spacy.load(tmp_path)
    examples = [Example.from_dict(loaded.make_doc(TEXT), {"tags": ["C", "B", "A", "C", "B", "A"], "entities": []})]
    optimizer = loaded.resume_training()
    assert optimizer.learn_rate == 0.002
    before = loaded(TEXT)._.trf_data.tensors[0]
    for _ in range(200):
        loaded.update(examples, sgd=optimizer)
    doc = loaded(TEXT)
    assert [token.tag_ for token in doc] == ["C", "B", "A", "C", "B", "A"]
    assert (doc._.trf_data.tensors[0] != before).any()


def test_an_excluded_last_listener_through_which_nothing_is_learned_is_told_once(
    nlp: Language, caplog: pytest.LogCaptureFixture
):
    examples = [Example.from_dict(nlp.make_doc(TEXT), {"tags": TAGS, "entities": []})]
    optimizer = nlp.resume_training()
    for _ in range(8):
        nlp.update(examples, sgd=optimizer, exclude=["ner"])
    assert caplog.text.count("Or it is frozen or excluded") == 1
    caplog.clear()
    for _ in range(8):
        nlp.update(examples, sgd=optimizer, exclude=["tagger"])
    assert not caplog.records
