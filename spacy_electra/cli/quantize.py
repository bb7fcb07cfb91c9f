"""`spacy electra quantize`: a pipeline that predicts in bytes as far as its scores stay what they are in float32."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import spacy
import torch
import typer
from spacy.language import Language
from spacy.training import Corpus, Example
from wasabi import msg

from spacy_electra.cli.bars import bar
from spacy_electra.cli.documents import SPACY
from spacy_electra.cli.errors import clear_errors, warn
from spacy_electra.model.int8 import multiplies_int8
from spacy_electra.model.precision import INT8
from spacy_electra.pipeline.quantization import (
    Part,
    Trial,
    Weighed,
    encoder_sections,
    evaluate,
    is_within,
    load_with,
    mixtures,
    scored_names,
    weigh_parts,
)

CPU = torch.device("cpu")
WIDTH = 9  # of a column, at least


@dataclass(frozen=True)
class Task:
    """What is tried, and on what."""

    pipeline: str
    sections: list[str]  # of the config, those of the encoders
    data: Path
    names: list[str]  # of the scores to keep

    def run(self, precision: str, excluded: Sequence[Part] = ()) -> tuple[dict[str, float], float]:
        nlp = load_with(self.pipeline, self.sections, precision, excluded)
        return evaluate(nlp, read_examples(nlp, self.data), self.names)


@clear_errors
def quantize(
    pipeline: str = typer.Argument(..., metavar="PIPELINE", help="A pipeline on disk, or an installed package"),
    data: Path = typer.Argument(..., metavar="DATA", help="Annotated documents to score on, a .spacy file"),
    out_dir: Path = typer.Argument(..., help="Folder for the pipeline in int8"),
    within: float = typer.Option(0.1, "--within", min=0.0, help="Most that a score may move, in percentage points"),
    scores: str = typer.Option("", "--scores", help="Those to keep, e.g. tag_acc,ents_f; else what training weighs"),
    json_path: Path | None = typer.Option(None, "--json", help="File for all that was tried"),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace the pipeline that is there"),
) -> None:
    """Write a pipeline with `precision = "int8"` whose scores on DATA are those of float32, within a tolerance.

    Where bytes in all of the transformer move a score further, parts of it multiply in 16 bits again, one after
    another, those that lose most by bytes first, until no score is further off; `int8_excluded` in the written config
    names them. That holds for DATA: on other texts a score may move by a little more, up or down.

    \b
    Example:
      python -m spacy electra quantize training/pipeline/model-best corpus/dev.spacy models/small-int8 --within 0.1
    """
    task = prepare(pipeline, data, out_dir, scores=scores, overwrite=overwrite)
    if json_path is not None:
        if json_path.is_dir():
            raise ValueError(f"--json {json_path} is a folder: give the path of a file.")
        json_path.parent.mkdir(parents=True, exist_ok=True)
    msg.info(f"Scores in percent on {data}, and by how much bytes move them")
    _say(["", *task.names, "words/s"])
    reference, speed = task.run("fp32")
    _say(["float32", *(f"{100 * reference[name]:.2f}" for name in task.names), f"{speed:,.0f}"])
    trials: list[Trial] = []
    for trial in try_mixtures(task):
        changes = (f"{100 * (trial.scores[name] - reference[name]):+.3f}" for name in task.names)
        _say([f"{trial.share:.0%} bytes", *changes, f"{trial.words_per_second:,.0f}"])
        trials.append(trial)
        if is_within(trial.scores, reference, points=within):
            break
    else:
        raise ValueError(
            f"even without bytes some score is further than {within:g} points from float32, so nothing was written: "
            f"allow more with --within."
        )
    write(task, trials[-1], out_dir)
    if json_path is not None:
        facts = {"pipeline": pipeline, "data": str(data), "within": within, "float32": reference}
        tried = [describe(trial) for trial in trials]
        json_path.write_text(json.dumps({**facts, "tried": tried}, indent=2) + "\n", encoding="utf8")


def prepare(pipeline: str, data: Path, out_dir: Path, *, scores: str, overwrite: bool) -> Task:
    """Look at everything before anything is scored. Raises ValueError or OSError for what cannot be done."""
    if not multiplies_int8(CPU):
        raise ValueError(
            "this processor has no units that multiply bytes (AVX512-VNNI or AMX), so int8 cannot be scored here: "
            "run it on one that has them."
        )
    if (out_dir / "meta.json").exists() and not overwrite:
        raise ValueError(f"{out_dir} holds a pipeline already: add --overwrite, or give another folder.")
    if out_dir.exists() and not out_dir.is_dir():
        raise ValueError(f"{out_dir} is a file: give a folder for the pipeline.")
    nlp = spacy.load(pipeline)
    sections = encoder_sections(nlp.config)
    if not sections:
        raise ValueError(
            f"{pipeline} has no transformer of this package, nothing that could be in bytes. Its components are "
            f"{', '.join(nlp.pipe_names)}: give a pipeline with spacy-electra.ElectraTransformer.v1."
        )
    names = [name.strip() for name in scores.split(",") if name.strip()] or scored_names(nlp.config)
    if not names:
        raise ValueError(
            f"the config of {pipeline} weighs no scores ([training.score_weights]): name some with --scores."
        )
    if not read_examples(nlp, data):
        raise ValueError(f"{data} holds no documents, expected annotated ones to score on: give another file.")
    return Task(pipeline, sections, data, names)


def read_examples(nlp: Language, data: Path) -> list[Example]:
    """The documents of a .spacy file. Raises OSError or ValueError where there are none to read."""
    if not data.is_file() or data.suffix != SPACY:
        raise ValueError(
            f"there is no file {data} of annotated documents: expected a .spacy file, as `spacy convert` writes it."
        )
    try:
        return list(Corpus(data)(nlp))
    except Exception as error:  # zlib's, msgpack's and spaCy's own, which share no class
        raise ValueError(
            f"{data} cannot be read as a .spacy file ({type(error).__name__}: {error}): make it again."
        ) from error


def try_mixtures(task: Task) -> Iterator[Trial]:
    """All parts in bytes first; parts are weighed only where that does not do."""
    yield Trial((), 1.0, *task.run(INT8))
    for excluded, share in list(mixtures(weigh(task)))[1:]:
        yield Trial(excluded, share, *task.run(INT8, excluded))


def weigh(task: Task) -> list[Weighed]:
    nlp = load_with(task.pipeline, task.sections, "auto")
    docs = [example.predicted for example in read_examples(nlp, task.data)]
    with bar(None, what="weighing parts", unit=" parts") as progress:
        weighed = []
        for one in weigh_parts(task.pipeline, task.sections, docs):
            weighed.append(one)
            progress.update()
    return weighed


def write(task: Task, trial: Trial, out_dir: Path) -> None:
    """The pipeline of a trial; in "auto" where nothing is left in bytes."""
    load_with(task.pipeline, task.sections, INT8 if trial.share else "auto", trial.excluded).to_disk(out_dir)
    if not trial.share:
        warn('No part may be in bytes: the pipeline predicts in 16 bits, as with precision = "auto".')
    msg.good(f"Wrote {out_dir}: {trial.share:.0%} of its products by weights are of bytes")
    if trial.share and trial.excluded:
        print("In 16 bits: " + ", ".join(part.name for part in trial.excluded))


def describe(trial: Trial) -> dict[str, Any]:
    """For JSON."""
    return {
        "bytes": trial.share,
        "int8_excluded": [{"section": part.section, "part": part.name} for part in trial.excluded],
        "scores": trial.scores,
        "words_per_second": trial.words_per_second,
    }


def _say(cells: Sequence[str]) -> None:
    first, *others = cells
    print(first.ljust(12) + "".join(cell.rjust(max(WIDTH, len(cell) + 2)) for cell in others), flush=True)
