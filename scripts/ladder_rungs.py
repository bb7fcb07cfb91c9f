"""The rungs of a ladder: for each the config that `spacy train` reads, and what has to be prepared for it.

cnn            spaCy's CNN, `spacy init config --optimize efficiency`
cnn-ensemble   the same, but a text classifier reads the CNN as well as counting words
cnn-floret     that with floret vectors of the raw text
cnn-pretrain   that after `spacy pretrain` on it
random         ours, random weights
mlm, electra   ours, from nothing by a masked language model, and by ELECTRA
start          ours, a ready encoder as it is
start-electra  the same after ELECTRA on the raw and the labelled text, averaged with it
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cnn_config import cnn_config, reading_config
from confection import Config
from ladder_cache import Cache, Preparation, fingerprint_of
from ladder_preparations import Preparations
from ladder_task import SPACY_S_OWN, Task
from spacy.cli.init_config import init_config
from train_runs import digest

from spacy_electra.cli.configs import config_text, pipeline_config
from spacy_electra.cli.start import read_start
from spacy_electra.model.files.hub import find_discriminator

LOGGER = {"@loggers": "spacy.ConsoleLogger.v3", "progress_bar": None, "console_output": True, "output_file": None}


@dataclass(frozen=True)
class Rung:
    """What is trained the same way with every seed."""

    name: str
    config: str  # text of the file for `spacy train`
    options: tuple[str, ...]  # of `spacy train`
    steps: int
    weights_option: str | None  # that names what was prepared
    weights: Preparation | Path | None

    def fingerprint(self, *, seed: int, documents: dict[str, str]) -> str:
        """sha256 of all that a run follows from, whatever its files are called. documents: their digests."""
        weights = self.weights.fingerprint if isinstance(self.weights, Preparation) else None
        if isinstance(self.weights, Path):
            weights = digest(self.weights)
        return fingerprint_of([self.name, self.config, self.options, self.steps, weights, seed, documents])

    def weights_options(self, cache: Cache) -> list[str]:
        """Options that name what was prepared, which is made where it is not there yet."""
        if self.weights is None or self.weights_option is None:
            return []
        path = cache.ready(self.weights) if isinstance(self.weights, Preparation) else self.weights
        return [self.weights_option, str(path)]


def make_rung(name: str, task: Task, preparations: Preparations) -> Rung:
    """The rung of a task. Raises FileNotFoundError or ValueError where its start is no encoder."""
    is_spacy_s_own = name in SPACY_S_OWN
    config, option, weights = (_spacy_s_own if is_spacy_s_own else _ours)(name, task, preparations)
    config["training"]["logger"] = dict(LOGGER)
    steps, frequency = task.fine_tuning.steps[name], task.fine_tuning.eval_frequency
    more = task.fine_tuning.cnn_options if is_spacy_s_own else task.fine_tuning.options
    budget = ("--training.max_steps", str(steps), "--training.eval_frequency", str(frequency))
    return Rung(name, config_text(config), (*budget, *more.split()), steps, option, weights)


def _spacy_s_own(
    name: str, task: Task, preparations: Preparations
) -> tuple[Config, str | None, Preparation | Path | None]:
    components, lang = task.about.components, task.about.lang
    if name == "cnn":
        return cnn_config(components, lang=lang), None, None
    config = reading_config(components, lang=lang)
    if name == "cnn-ensemble":
        return config, None, None
    if name == "cnn-floret":
        config["components"]["tok2vec"]["model"]["embed"]["include_static_vectors"] = True
        return config, "--paths.vectors", preparations.vectors()
    full = init_config(lang=lang, pipeline=list(components), gpu=False, pretraining=True, silent=True)
    config["pretraining"], config["corpora"]["pretrain"] = full["pretraining"], full["corpora"]["pretrain"]
    config["paths"]["raw_text"] = None
    return config, "--paths.init_tok2vec", preparations.tok2vec()


def _ours(name: str, task: Task, preparations: Preparations) -> tuple[Config, str | None, Preparation | Path | None]:
    with_start = name in ("start", "start-electra")
    size = read_start(str(preparations.start)).size if with_start else task.pretraining.size
    config = pipeline_config(task.about.components, size=size, lang=task.about.lang, gpu=False, frozen=False)
    weights: dict[str, Callable[[], Preparation | Path]] = {
        "random": preparations.random,
        "mlm": lambda: preparations.pretrained("mlm", with_start=False),
        "electra": lambda: preparations.pretrained("electra", with_start=False),
        "start": lambda: find_discriminator(str(preparations.start)),
        "start-electra": lambda: preparations.pretrained("electra", with_start=True),
    }
    return config, "--paths.discriminator", weights[name]()
