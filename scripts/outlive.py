"""Run Python with these arguments, and let it finish its work when this program is stopped.

Ctrl-C reaches all programs of a terminal, and spaCy's project runner kills what it started a quarter of a second later:
too soon to end a step and write a checkpoint. It kills this program instead; the one that works ends by itself.
Example: python scripts/outlive.py -m spacy electra pretrain configs/pretrain.cfg --output training/pretrain --resume
"""

import signal
import subprocess
import sys


def main(arguments: list[str]) -> int:
    """The exit status of Python with `arguments`."""
    process = subprocess.Popen([sys.executable, *arguments])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process itself has the signal, too
    signal.signal(signal.SIGTERM, lambda number, frame: process.terminate())  # this one it may not have
    return process.wait()


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
