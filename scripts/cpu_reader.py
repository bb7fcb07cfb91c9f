"""A reader of raw text that ends `spacy pretrain` when its processor minutes are spent, which otherwise counts epochs.

spaCy writes model-last.bin on the way out; it is also written where the run is ended from outside.
For the option --code: python -m spacy pretrain cnn.cfg training/tok2vec --code scripts/cpu_reader.py
  --corpora.pretrain.@readers ladder.CpuMinutes.v1 --corpora.pretrain.minutes 60
"""

import signal
import time
from collections.abc import Callable, Iterator
from types import FrameType

from spacy.language import Language
from spacy.training import Example, JsonlCorpus
from spacy.util import registry

NAME = "ladder.CpuMinutes.v1"
INTERRUPTED = 130  # exit status


Reader = Callable[[Language], Iterator[Example]]


@registry.readers(NAME)
def create_reader(path: str, minutes: float, min_length: int, max_length: int) -> Reader:
    """Documents of a .jsonl file, as spaCy's reader gives them, until this process has used `minutes` of the processor.

    min_length, max_length: tokens of a document. Raises SystemExit with status 0 then, and 130 upon SIGTERM.
    """
    corpus = JsonlCorpus(path, min_length=min_length, max_length=max_length)
    signal.signal(signal.SIGTERM, _leave)

    def read(nlp: Language) -> Iterator[Example]:
        for example in corpus(nlp):
            yield example
            if time.process_time() >= minutes * 60:
                raise SystemExit(0)

    return read


def _leave(number: int, frame: FrameType | None) -> None:
    raise SystemExit(INTERRUPTED)
