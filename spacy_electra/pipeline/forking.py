"""Let forked processes compute. A fork copies the libraries' state but not their threads, and the child waits for them.

`nlp.pipe(n_process=2)` forks on Linux; after a prediction with several threads its workers would never answer.
"""

import functools
import os

import torch


@functools.cache
def survive_forks() -> None:
    """From now on, let every forked child compute on one thread. Does nothing where processes cannot fork."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_use_one_thread)


def _use_one_thread() -> None:
    torch.set_num_threads(1)
