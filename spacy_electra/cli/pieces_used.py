"""Choose the pieces of a vocabulary that a corpus uses, for commands."""

from spacy_electra.cli.documents import ReadingLimits, texts_with_progress
from spacy_electra.data.tokenizer.pruning import count_pieces, prune_vocabulary
from spacy_electra.data.tokenizer.wordpiece import WordPiece


def pieces_used(corpus: list[str], tokenizer: WordPiece, *, vocab_size: int | None, limits: ReadingLimits) -> WordPiece:
    """The tokenizer with the pieces of a corpus, as `data.tokenizer.pruning.prune_vocabulary` chooses them."""
    with texts_with_progress(corpus, limits) as texts:
        counts = count_pieces(texts, tokenizer)
    return prune_vocabulary(tokenizer, counts, vocab_size=vocab_size)
