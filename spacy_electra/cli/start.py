"""Read the numbers of a model that `init-config --start` puts into both configs."""

from dataclasses import dataclass
from typing import Any

from spacy_electra.model.files.hub import find_discriminator, find_generator
from spacy_electra.model.files.saved_model import has_own_body, read_model
from spacy_electra.model.network.encoder import EncoderShape

NUMBERS = ("layers", "width", "feed_forward", "heads")
# Peak rate of pretraining, times width. The paper's are 5e-4 at 256 and 2e-4 at 768 (Clark et al. 2020, table 6)
PRETRAINING_RATE_TIMES_WIDTH = 0.128
EVAL_FREQUENCY = 250  # steps; `assets/electra-en` takes two and a half minutes for them on one core
DEEPEST = {"tiny": 4, "small": 12}  # layers up to which a model is treated as one of this size


@dataclass(frozen=True)
class Start:
    """Name and shape of a model to start from."""

    name: str
    discriminator: dict[str, Any]  # what [model.discriminator] says of it
    generator: dict[str, Any] | None  # None: the discriminator's body guesses as well
    positions: int

    @property
    def size(self) -> str:
        """The preset whose other settings suit this shape."""
        return next((size for size, most in DEEPEST.items() if self.discriminator["layers"] <= most), "large")

    @property
    def learn_rate(self) -> float:
        """Peak learning rate of pretraining, rounded to one digit."""
        return float(f"{PRETRAINING_RATE_TIMES_WIDTH / self.discriminator['width']:.0e}")


def read_start(name: str) -> Start:
    """Read what configs need of a model. Raises FileNotFoundError or ValueError if `name` is not a model."""
    saved, folder = read_model(find_discriminator(name)), find_generator(name, None)
    shape, numbers = saved.shape, None
    if folder is not None:
        generator = read_model(folder)
        numbers = _numbers(generator.shape) if has_own_body(generator, saved) else None
    return Start(name, _numbers(shape) | {"embedding": shape.embedding}, numbers, shape.positions)


def _numbers(shape: EncoderShape) -> dict[str, Any]:
    return {key: getattr(shape, key) for key in NUMBERS}
