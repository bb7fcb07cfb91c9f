"""What the rungs of a ladder are prepared with: data, text cut for each program, vectors, pretrained weights.

What a preparation is made from has no names of files in it, so tasks with the same raw text and minutes share it, and
another machine gives it the same fingerprint.
"""

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from cnn_config import cnn_config
from confection import Config
from cpu_reader import NAME as READER
from ladder_cache import PRETRAINING, TEXT, UNCOUNTED, Cache, Preparation, Step, read_cost
from ladder_task import ROOT, Pretraining, Task, arguments
from spacy.cli.init_config import init_config
from split_text import SPANS, TOKENS
from train_runs import digest

from spacy_electra.cli.configs import config_text, pretrain_config, start_config, with_labels
from spacy_electra.cli.start import read_start

SCRIPTS = ROOT / "scripts"
ELECTRA = ["-m", "spacy", "electra"]
CHECKPOINT_MINUTES = "2"
SAVE_EVERY = 500  # batches of `spacy pretrain`, a few minutes; what a kill may lose
FLORET = "floret"  # name of the preparation
WEIGHTS = "run/model-last/discriminator"
MEAN_WITH_START = SCRIPTS / "mean_with_start.py"


def make_data(task: Task, places: dict[str, Path]) -> Preparation:
    """What the commands of a task's [make] write: raw text and annotated documents.

    places: all but {made}, which is the folder of this preparation. Raises FileNotFoundError for a missing folder.
    """
    text = " ".join(task.make.values()) + " ".join(task.paths.model_dump().values())
    if "{data}" in text and not places["data"].is_dir():
        raise FileNotFoundError(
            f"the task {task.name} reads files below {places['data']}, which is no folder: give --data DIR, or set "
            f"LADDER_DATA. project.yml and the description of the task say what it holds."
        )
    commands = {name: arguments(command, places | {"made": Path("{made}")}) for name, command in task.make.items()}
    read = {Path(word) for words in commands.values() for word in words if Path(word).is_file()}
    packed = {path for words in commands.values() for word in words if (path := Path(f"{word}.gz")).is_file()}
    return Preparation(
        name=f"data-{task.name}",
        made_from={"commands": dict(task.make), "files": sorted(digest(path) for path in read | packed)},
        steps=lambda folder, cache: [
            Step(name, UNCOUNTED, [word.replace("{made}", folder.as_posix()) for word in words])
            for name, words in commands.items()
        ],
        product="",
    )


@dataclass(frozen=True)
class Preparations:
    """What the preparations of a task are made from."""

    task: Task
    text: Path  # raw
    start: Path  # folder of the ready encoder
    train: Path  # labelled documents, whose text is among the rows of a run from the start

    @property
    def pretraining(self) -> Pretraining:
        return self.task.pretraining

    @cached_property
    def text_digest(self) -> str:
        return digest(self.text)

    def spans(self) -> Preparation:
        """The text as `spacy pretrain` and floret read it."""
        lang = self.task.about.lang
        return Preparation(
            name="spans",
            made_from={"text": self.text_digest, "lang": lang, "script": digest(SCRIPTS / "split_text.py")},
            steps=lambda folder, cache: [
                Step("split", TEXT, [str(SCRIPTS / "split_text.py"), str(self.text), str(folder), "--lang", lang])
            ],
            product="",
        )

    def vectors(self) -> Preparation:
        """A folder for paths.vectors."""
        spans, lang, settings = self.spans(), self.task.about.lang, self.pretraining.floret
        options = [f"--{key.replace('_', '-')}={value}" for key, value in settings.model_dump().items()]
        options.append(f"--minutes={self.pretraining.minutes}")

        def steps(folder: Path, cache: Cache) -> list[Step]:
            tokens, table = cache.product(spans) / TOKENS, folder / "vectors.floret"
            train = [str(SCRIPTS / "floret_vectors.py"), str(tokens), str(table), *options]
            convert = ["-m", "spacy", "init", "vectors", lang, str(table), str(folder / "vectors"), "--mode", "floret"]
            return [Step("floret", PRETRAINING, train), Step("convert", PRETRAINING, convert)]

        made_from = {"options": options, "script": digest(SCRIPTS / "floret_vectors.py")}
        return Preparation(FLORET, made_from, steps, product="vectors", needs=(spans,))

    def tok2vec(self) -> Preparation:
        """A file for paths.init_tok2vec: the CNN after `spacy pretrain`."""
        spans, minutes = self.spans(), self.pretraining.minutes
        config = self._tok2vec_config()

        def steps(folder: Path, cache: Cache) -> list[Step]:
            spent = read_cost(folder).get(PRETRAINING, 0.0) / 60
            reader = {"path": str(cache.product(spans) / SPANS), "minutes": max(0.0, minutes - spent)}
            filled_in = config.copy()
            filled_in["corpora"]["pretrain"] |= reader
            path, run = folder / "pretrain.cfg", folder / "run"
            path.write_text(config_text(filled_in), encoding="utf8")
            command = ["-m", "spacy", "pretrain", str(path), str(run), "--code", str(SCRIPTS / "cpu_reader.py")]
            return [Step("pretrain", PRETRAINING, [*command, *resumed(run)])]

        made_from = {"config": config_text(config), "minutes": minutes}
        return Preparation("tok2vec", made_from, steps, product="run/model-last.bin", needs=(spans,))

    def _tok2vec_config(self) -> Config:
        """`spacy init config --pretraining` for the CNN alone, with a reader that ends by the clock."""
        config = cnn_config(["tagger"], lang=self.task.about.lang)
        config["nlp"]["pipeline"] = ["tok2vec"]
        del config["components"]["tagger"]
        config["training"]["score_weights"] = {}
        full = init_config(lang=self.task.about.lang, pipeline=["tagger"], gpu=False, pretraining=True, silent=True)
        config["pretraining"] = full["pretraining"] | {"n_save_every": SAVE_EVERY, "max_epochs": 1_000_000}
        limits = {key: full["corpora"]["pretrain"][key] for key in ("min_length", "max_length")}
        config["corpora"]["pretrain"] = {"@readers": READER, "path": "", "minutes": 0.0, **limits}
        return config

    def pieces(self, *, with_start: bool) -> Preparation:
        """Vocabulary and store: those of the start, or learned from the text."""
        options = self.pretraining.vocabulary.split()
        made_from: dict[str, object] = {"text": self.text_digest, "options": options}
        if with_start:
            made_from = {"text": self.text_digest, "start": digest(self.start), "labels": digest(self.train)}
            options = ["--from", str(self.start)]

        def steps(folder: Path, cache: Cache) -> list[Step]:
            tokenizer, store, text = str(folder / "tokenizer"), str(folder / "store"), str(self.text)
            learn = [*ELECTRA, "train-tokenizer", text, tokenizer, *options, "--overwrite"]
            made = [
                Step("vocabulary", TEXT, learn),
                Step("tokenize", TEXT, [*ELECTRA, "tokenize", text, store, "--tokenizer", tokenizer]),
            ]
            labels = [*ELECTRA, "tokenize", str(self.train), str(folder / "labels"), "--tokenizer", tokenizer]
            return [*made, Step("labels", TEXT, labels)] if with_start else made

        return Preparation("pieces", made_from, steps, product="")

    def random(self) -> Preparation:
        """Random weights of the shape of what begins with nothing; a run of one step says what shape that is."""
        pieces, config = self.pieces(with_start=False), self._config("electra", with_start=False)

        def steps(folder: Path, cache: Cache) -> list[Step]:
            budget = ["--training.max_steps", "1", "--training.max_minutes", "0"]
            shape = self._pretrain(folder, config, cache.product(pieces), budget, with_start=False)
            script = [str(SCRIPTS / "first_weights.py"), str(folder / WEIGHTS), str(folder / "weights")]
            return [Step("shape", UNCOUNTED, shape), Step("weights", UNCOUNTED, script)]

        return Preparation("random", {"config": config_text(config)}, steps, product="weights", needs=(pieces,))

    def pretrained(self, objective: str, *, with_start: bool) -> Preparation:
        """An encoder after ELECTRA, or after a masked language model, for as many minutes as the task says."""
        pieces, config = self.pieces(with_start=with_start), self._config(objective, with_start=with_start)
        minutes = self.pretraining.minutes
        made_from: dict[str, object] = {"config": config_text(config), "minutes": minutes}
        if with_start:
            made_from |= {"start": digest(self.start), "labels": digest(self.train), "script": digest(MEAN_WITH_START)}

        def steps(folder: Path, cache: Cache) -> list[Step]:
            budget = ["--training.max_minutes", str(minutes)]
            command = self._pretrain(folder, config, cache.product(pieces), budget, with_start=with_start)
            average = [str(MEAN_WITH_START), str(folder / "run"), str(folder / "mean"), "--start", str(self.start)]
            made = [Step("pretrain", PRETRAINING, command)]
            return [*made, Step("average", PRETRAINING, average)] if with_start else made

        name = "start-electra" if with_start else objective
        product = "mean/discriminator" if with_start else WEIGHTS
        return Preparation(name, made_from, steps, product=product, needs=(pieces,))

    def _config(self, objective: str, *, with_start: bool) -> Config:
        """What `init-config` writes, without the name of the start."""
        if not with_start:
            return pretrain_config(self.pretraining.size, gpu=False, objective=objective)
        config = start_config(read_start(str(self.start)), gpu=False, objective=objective)
        config["paths"]["init"] = None
        return with_labels(config, "labels")

    def _pretrain(
        self, folder: Path, config: Config, pieces: Path, budget: list[str], *, with_start: bool
    ) -> list[str]:
        """The command that begins a run in the folder, or goes on with it."""
        path = folder / "pretrain.cfg"
        path.write_text(config_text(config), encoding="utf8")
        command = [*ELECTRA, "pretrain", str(path), "--output", str(folder / "run"), "--resume"]
        command += ["--code", str(SCRIPTS / "cpu_clock.py"), "--training.checkpoint_minutes", CHECKPOINT_MINUTES]
        command += ["--paths.train", str(pieces / "store"), "--paths.tokenizer", str(pieces / "tokenizer")]
        if with_start:
            command += ["--paths.init", str(self.start), "--corpora.labels.path", str(pieces / "labels")]
        return [*command, *budget]


def resumed(run: Path) -> list[str]:
    """Options of `spacy pretrain` that go on from the newest weights in the folder; none where there are none."""
    saved = sorted(run.glob("model*.bin"), key=lambda path: path.stat().st_mtime)
    if not saved:
        return []
    epochs = [int(match[1]) for path in saved if (match := re.fullmatch(r"model(\d+)(\.temp)?\.bin", path.name))]
    return ["--resume-path", str(saved[-1]), "--epoch-resume", str(max([1, *epochs]))]  # spaCy takes 0 for none
