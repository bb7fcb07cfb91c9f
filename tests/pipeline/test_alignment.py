import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from spacy.tokens import Doc
from spacy.vocab import Vocab

from spacy_electra.data.tokenizer.wordpiece import WordPiece
from spacy_electra.pipeline.alignment import Spans, align
from spacy_electra.pipeline.pieces import cut_pieces


@pytest.fixture(scope="module")
def tokenizer(model_dir) -> WordPiece:
    return WordPiece.load(model_dir)


def ranges(tokens, pieces, is_space=None, bounds=None):
    bounds = [[0, len(pieces)]] * len(tokens) if bounds is None else bounds
    alignment = align(
        Spans(*np.array(tokens).T),
        Spans(*np.array(pieces).T),
        is_space=np.array([False] * len(tokens) if is_space is None else is_space),
        bounds=np.array(bounds),
    )
    return [
        list(range(f, f + n)) for f, n in zip(alignment.first, alignment.count, strict=True)
    ], alignment.flat.tolist()


def test_a_token_takes_the_pieces_it_overlaps():
    assert ranges([(0, 4), (5, 7)], [(0, 2), (2, 4), (5, 7)]) == ([[0, 1], [2]], [0, 1, 2])


def test_tokens_that_meet_inside_a_piece_share_it():
    assert ranges([(0, 3), (3, 6)], [(0, 2), (2, 5), (5, 6)]) == ([[0, 1], [1, 2]], [0, 1, 1, 2])


def test_white_space_has_no_piece():
    assert ranges([(0, 2), (2, 5), (5, 6)], [(0, 2), (5, 6)], [False, True, False]) == ([[0], [], [1]], [0, 1])


@pytest.mark.parametrize(("token", "nearest"), [((3, 4), 0), ((4, 5), 0), ((6, 7), 1), ((0, 1), 0), ((20, 21), 1)])
def test_an_erased_token_takes_the_nearest_piece(token, nearest):
    assert ranges([token], [(1, 3), (8, 9)])[0] == [[nearest]]


def test_an_erased_token_stays_in_its_document():
    """The piece of the other document is nearer, but belongs to other text."""
    tokens, pieces = [(0, 2), (9, 10), (11, 13)], [(0, 2), (11, 13)]
    assert ranges(tokens, pieces, bounds=[[0, 1], [0, 1], [1, 2]])[0] == [[0], [0], [1]]


words = st.text(alphabet="aot' \u00e9\u0301\u200b\u00ad\ufb01\uac00\u4e2d\U0001f600\u05d0", min_size=1, max_size=4)


@given(st.lists(st.lists(st.tuples(words, st.booleans()), max_size=6), min_size=1, max_size=3))
@settings(max_examples=150, deadline=None)
def test_pieces_follow_the_definition_for_any_text(tokenizer, documents):
    docs = [Doc(Vocab(), words=[w for w, _ in doc], spaces=[s for _, s in doc]) for doc in documents]
    pieces = cut_pieces(docs, tokenizer)
    flat = np.split(pieces.alignment.flat, np.cumsum(pieces.alignment.count)[:-1])
    begin, number = 0, 0
    for doc, count in zip(docs, pieces.counts.tolist(), strict=True):
        (alone,) = tokenizer.encode([doc.text])
        for token in doc:
            mine = [place - begin for place in flat[number].tolist()]
            place, end = token.idx, token.idx + len(token)
            overlap = [n for n, (a, b) in enumerate(alone.offsets.tolist()) if a < end and b > place]
            if token.is_space:
                assert mine == []
            elif overlap:
                assert mine == overlap
            else:
                assert len(mine) == 1
                assert 0 <= mine[0] < count
            number += 1
        begin += count
