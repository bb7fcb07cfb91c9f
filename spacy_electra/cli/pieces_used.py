"""Choose the pieces of a vocabulary that a corpus uses, for commands."""

from collections.abc import Iterator

from spacy_electra.cli.bars import bar
from spacy_electra.cli.documents import corpus_files, open_documents
from spacy_electra.cli.errors import warn
from spacy_electra.data.corpus.limits import DEFAULT_MEMORY, MemoryLimits
from spacy_electra.data.corpus.skipped import Skipped
from spacy_electra.data.corpus.sources import total_bytes
from spacy_electra.data.tokenizer.pruning import count_pieces, prune_vocabulary
from spacy_electra.data.tokenizer.wordpiece import WordPiece


def pieces_used(
    corpus: list[str],
    tokenizer: WordPiece,
    *,
    vocab_size: int | None,
    max_faults: int,
    max_length: int | None = None,
    memory: MemoryLimits = DEFAULT_MEMORY,
) -> WordPiece:
    """The tokenizer with the pieces of a corpus, as `data.tokenizer.pruning.prune_vocabulary` chooses them."""
    skipped, files = Skipped(), corpus_files(corpus)

    def texts() -> Iterator[str]:
        documents = open_documents(
            files,
            skipped=skipped,
            max_faults=max_faults,
            max_length=max_length,
            memory=memory,
            on_bytes=progress.update,
        )
        yield from (document.text for document in documents)

    with bar(total_bytes(files), what="read", unit="B") as progress:
        counts = count_pieces(texts(), tokenizer)
    if skipped.faults:
        warn(str(skipped))
    return prune_vocabulary(tokenizer, counts, vocab_size=vocab_size)
