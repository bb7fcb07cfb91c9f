"""Messages about unknown pieces: a warning when a store is made, an error before a run."""

import sys

from spacy_electra.cli.documents import ReadingLimits, open_documents
from spacy_electra.cli.errors import warn
from spacy_electra.data.corpus.skipped import Skipped
from spacy_electra.data.corpus.sources import is_url
from spacy_electra.data.store.manifest import Manifest
from spacy_electra.data.store.reader import Store
from spacy_electra.data.tokenizer.unknown import TOO_MANY, unknown_words
from spacy_electra.data.tokenizer.wordpiece import WordPiece


def warn_of_unknown(manifest: Manifest, files: list[str], tokenizer: WordPiece) -> None:
    """Warn if a new store has many unknown pieces, with unknown words of the files."""
    share = (manifest.unknown or 0) / max(manifest.pieces, 1)
    if share <= TOO_MANY:
        return
    texts = [name for name in files if not is_url(name)]
    read = open_documents(texts, skipped=Skipped(), limits=ReadingLimits(sys.maxsize)) if texts else ()
    words = unknown_words((document.text for document in read), tokenizer)
    told = ", ".join(f"{word!r} {count:,} times" for word, count in words)
    warn(
        f"{share:.1%} of the pieces are unknown ([UNK]){f', for example {told}' if told else ''}: the vocabulary does "
        "not fit this text.\n  Learn one from it (train-tokenizer), or take one of its language. `pretrain` refuses a "
        "store with more of them than [training] max_unknown."
    )


def check_unknown(*stores: Store | None, most: float) -> None:
    """Raise ValueError if more than the share `most` of a store's pieces is [UNK]."""
    for store in filter(None, stores):
        share = store.unknown_share()
        if share > most:
            raise ValueError(
                f"{share:.1%} of the pieces in {store.directory} are unknown ([UNK]), but [training] max_unknown "
                f"allows {most:.1%}: the vocabulary is of other text, and little could be learned. Learn one from this "
                f"text (train-tokenizer) and tokenize again with it and --overwrite; or raise --training.max_unknown."
            )
