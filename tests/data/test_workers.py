"""Processes that help: none outlives the one that started it, and the death of one is told."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from spacy_electra.data.corpus.documents import Document
from spacy_electra.data.processes import spawned_pool, told_if_killed
from spacy_electra.data.store.tokenize import BATCH_CHARACTERS, tokenized
from spacy_electra.data.tokenizer.wordpiece import train_wordpiece

PARENT = """
import os, sys, time
from spacy_electra.data.corpus.documents import Document
from spacy_electra.data.store.tokenize import BATCH_CHARACTERS, tokenized
from spacy_electra.data.tokenizer.wordpiece import train_wordpiece
from spacy_electra.data.processes import spawned_pool

if __name__ == "__main__":
    pool = spawned_pool(1)
    print(pool.submit(os.getpid).result(), flush=True)
    time.sleep(60)
"""


def is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{process}/stat")
    return not state.exists() or ") Z " not in state.read_text()


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_a_process_ends_when_the_one_that_started_it_is_killed(tmp_path: Path) -> None:
    (tmp_path / "parent.py").write_text(PARENT)
    parent = subprocess.Popen([sys.executable, tmp_path / "parent.py"], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    until = time.monotonic() + 20
    while is_alive(child) and time.monotonic() < until:
        time.sleep(0.05)
    assert not is_alive(child)


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_a_process_that_was_killed_is_told_in_one_message() -> None:
    with pytest.raises(ValueError, match="a helping process was killed"), told_if_killed(), spawned_pool(1) as pool:
        pool.submit(os.kill, pool.submit(os.getpid).result(), signal.SIGKILL).result()


def documents_until_workers_die() -> Iterator[Document]:
    for number in range(1, 9):
        if number == 5:
            workers = multiprocessing.active_children()
            for worker in workers:
                worker.kill()
                worker.join()
        yield Document("a " * BATCH_CHARACTERS, "a.txt", number)


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_tokenising_says_that_its_processes_were_killed_and_what_to_do() -> None:
    wordpiece = train_wordpiece(["a b"], vocab_size=10, cased=False, strip_accents=None)
    with pytest.raises(ValueError, match=r"was killed, as the system does where memory ends.*--processes"):
        list(tokenized(documents_until_workers_die(), wordpiece, processes=2))
