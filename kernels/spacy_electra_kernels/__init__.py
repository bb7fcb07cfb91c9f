"""Where the compiled library lies that spacy-electra loads by ctypes. Needs nothing but Python."""

from pathlib import Path

__version__ = "0.1.0"

LIBRARY = Path(__file__).with_name("libspacy_electra_kernels.so")
