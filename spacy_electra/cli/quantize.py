"""`spacy electra quantize`: a pipeline that predicts in bytes as far as its scores stay what they are in float32."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import spacy
import torch
import typer
from spacy.cli._util import import_code
from spacy.language import Language
from spacy.training import Corpus, Example
from wasabi import msg

from spacy_electra.cli.bars import bar
from spacy_electra.cli.documents import SPACY, damaged
from spacy_electra.cli.errors import clear_errors, warn
from spacy_electra.cli.outputs import check_json, write_json
from spacy_electra.data.replacing import replaced_folder
from spacy_electra.model.int8 import multiplies_int8
from spacy_electra.pipeline.agreement import agreement
from spacy_electra.pipeline.quantization import (
    Mixture,
    Part,
    Scored,
    Weighed,
    encoder_sections,
    evaluate,
    exclusions,
    in_bytes_but,
    is_within,
    overrides_for,
    parts_in,
    predict_in,
    scored_names,
    weigh_parts,
)

CPU = torch.device("cpu")
FLOAT32, AUTO = Mixture("fp32", (), 0.0), Mixture("auto", (), 0.0)
WIDTH = 9  # of a column, at least


@dataclass(frozen=True)
class Task:
    """A loaded pipeline, and what it is scored on."""

    nlp: Language
    sections: list[str]  # of the config, those of the encoders
    data: Path
    names: list[str]  # of the scores to keep

    def score(self, mixture: Mixture) -> Scored:
        predict_in(self.nlp, self.sections, mixture)
        return evaluate(self.nlp, read_examples(self.nlp, self.data), self.names)


@clear_errors
def quantize(
    pipeline: str = typer.Argument(..., metavar="PIPELINE", help="A pipeline on disk, or an installed package"),
    data: Path = typer.Argument(..., metavar="DATA", help="Annotated documents to score on, a .spacy file"),
    out_dir: Path = typer.Argument(..., metavar="OUT_DIR", help="Folder for the pipeline in int8"),
    within: float = typer.Option(0.1, "--within", min=0.0, help="Most that a score may move, in percentage points"),
    scores: str = typer.Option("", "--scores", help="Those to keep, e.g. tag_acc,ents_f; else what training weighs"),
    code: Path | None = typer.Option(
        None, "--code", "-c", help="Python file to import first, for registered functions"
    ),
    json_path: Path | None = typer.Option(None, "--json", help="File for all that was tried"),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace the pipeline that is there"),
) -> None:
    """Write a pipeline with `precision = "int8"` whose scores on DATA are those of float32, within a tolerance.

    Where bytes in all of the transformer move a score further, parts of it go back to 16 bits, one after another, those
    that lose most by bytes first, until no score is further off; `int8_excluded` in the written config names them. That
    holds for DATA and for processors like this one: elsewhere a score may move by a little more, up or down. Among few
    documents one decision may be more than 0.1 points: give --within accordingly.

    \b
    Example:
      python -m spacy electra quantize training/pipeline/model-best corpus/dev.spacy models/small-int8 --within 0.1
    """
    import_code(code)
    task = prepare(pipeline, data, scores=scores)
    check_outputs(out_dir, json_path, overwrite=overwrite)
    is_json_written = True
    with replaced_folder(out_dir, last="meta.json") as folder:
        msg.info(f"Scores in percent on {data}, how far they move, and what stays annotated alike")
        reference = task.score(FLOAT32)
        _say(["", *task.names, "alike", "words/s"])
        percent = (f"{100 * reference.scores[name]:.2f}" for name in task.names)
        _say(["float32", *percent, "", f"{reference.speed:,.0f}"])
        task.nlp.to_disk(folder)  # what is written is what is tried, rounded weights too
        staged = Task(spacy.load(folder), task.sections, data, task.names)
        tried, kept = search(staged, reference, within=within)
        if json_path is not None:
            facts = {"pipeline": pipeline, "data": str(data), "within": within, "float32": reference.scores}
            answer = {**facts, "tried": tried, "written": len(kept) > 0}
            is_json_written = write_json(json_path, answer)
        if not kept:
            raise ValueError(
                f"even without bytes some score is further than {within:g} points from float32, so nothing was "
                f"written: allow more with --within."
            )
        spacy.load(folder, config=overrides_for(task.sections, kept[-1])).to_disk(folder)
    conclude(kept[-1], out_dir, is_one=len(task.sections) == 1)
    if not is_json_written:
        raise typer.Exit(1)


def prepare(pipeline: str, data: Path, *, scores: str) -> Task:
    """Look at all that is read before anything is scored. Raises ValueError or OSError for what cannot be done."""
    if not multiplies_int8(CPU):
        raise ValueError(
            "this processor has no units that multiply bytes (AVX512-VNNI or AMX), so int8 cannot be scored here: "
            "run it on one that has them."
        )
    nlp = spacy.load(pipeline)
    sections = encoder_sections(nlp)
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
    return Task(nlp, sections, data, names)


def check_outputs(out_dir: Path, json_path: Path | None, *, overwrite: bool) -> None:
    """Make the folders that are written last, so that no work is lost. Raises ValueError or OSError."""
    if out_dir.exists() and not out_dir.is_dir():
        raise ValueError(f"{out_dir} is a file: give a folder for the pipeline.")
    if out_dir.exists() and any(out_dir.iterdir()):
        if not (out_dir / "meta.json").is_file():
            raise ValueError(f"{out_dir} holds something, but no pipeline: give another folder, or an empty one.")
        if not overwrite:
            raise ValueError(f"{out_dir} holds a pipeline already: add --overwrite, or give another folder.")
    out_dir.parent.mkdir(parents=True, exist_ok=True)
    if json_path is not None:
        if json_path.resolve() == out_dir.resolve():
            raise ValueError(f"--json {json_path} is OUT_DIR, a folder: give the path of a file.")
        check_json(json_path)


def read_examples(nlp: Language, data: Path) -> list[Example]:
    """The documents of a .spacy file. Raises ValueError where there are none to read."""
    if not data.is_file():
        raise ValueError(f"there is no file {data}: give a .spacy file of annotated documents.")
    if data.suffix != SPACY:
        raise ValueError(f"{data} is no .spacy file: annotated documents become one by `python -m spacy convert`.")
    try:
        return list(Corpus(data)(nlp))
    except Exception as error:  # zlib's, msgpack's and spaCy's own, which share no class
        raise damaged(data, error) from error


def search(task: Task, reference: Scored, *, within: float) -> tuple[list[dict[str, Any]], list[Mixture]]:
    """Score one mixture after another and print it, up to the first with bytes that is within the tolerance.

    All that was tried, for JSON, and those within the tolerance: "auto" where it is, and the one with bytes.
    """
    tried, kept = [], []
    for mixture in mixtures(task):
        scored = task.score(mixture)
        alike = agreement(scored.docs, reference.docs)
        moves = (f"{100 * (scored.scores[name] - reference.scores[name]):+.3f}" for name in task.names)
        _say([_label(mixture), *moves, f"{alike:.2%}", f"{scored.speed:,.0f}"])
        tried.append(describe(mixture, scored, alike))
        if is_within(scored.scores, reference.scores, points=within):
            kept.append(mixture)
            if mixture != AUTO:
                break
    return tried, kept


def mixtures(task: Task) -> Iterator[Mixture]:
    """No bytes, then bytes in all parts, which are weighed only where that does not do."""
    yield AUTO
    yield in_bytes_but(task.nlp, task.sections)
    for excluded in exclusions(weigh(task)):
        yield in_bytes_but(task.nlp, task.sections, excluded)


def weigh(task: Task) -> list[Weighed]:
    docs = [example.predicted for example in read_examples(task.nlp, task.data)]
    weighed = []
    with bar(len(parts_in(task.nlp, task.sections)), what="weighing parts", unit=" parts") as progress:
        for one in weigh_parts(task.nlp, task.sections, docs):
            weighed.append(one)
            progress.update()
    return weighed


def conclude(mixture: Mixture, out_dir: Path, *, is_one: bool) -> None:
    """Say what was written. is_one: there is one encoder, so its parts need no other name."""
    if mixture == AUTO:
        warn('No part may be in bytes: the pipeline has precision = "auto".')
    msg.good(f"Wrote {out_dir}: {mixture.share:.0%} of its products by weights are of bytes")
    if mixture.excluded:
        print("In 16 bits: " + ", ".join(_name(part, is_one=is_one) for part in mixture.excluded))


def describe(mixture: Mixture, scored: Scored, alike: float) -> dict[str, Any]:
    """For JSON."""
    return {
        "precision": mixture.precision,
        "bytes": mixture.share,
        "int8_excluded": [{"section": part.section, "part": part.name} for part in mixture.excluded],
        "scores": scored.scores,
        "annotated_alike": alike,
        "words_per_second": scored.speed,
    }


def _name(part: Part, *, is_one: bool) -> str:
    return part.name if is_one else f"{part.name} of {part.section}"


def _label(mixture: Mixture) -> str:
    return mixture.precision if mixture == AUTO else f"{mixture.share:.0%} bytes"


def _say(cells: Sequence[str]) -> None:
    first, *others = cells
    print(first.ljust(12) + "".join(cell.rjust(max(WIDTH, len(cell) + 2)) for cell in others), flush=True)
