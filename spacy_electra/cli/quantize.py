"""`spacy electra quantize`: compare a pipeline's scores and speed in int8, and write it in int8."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import spacy
import torch
import typer
from spacy.cli._util import import_code
from spacy.language import Language
from spacy.training import Corpus, Example
from wasabi import msg

from spacy_electra.cli.documents import SPACY, damaged
from spacy_electra.cli.errors import clear_errors
from spacy_electra.cli.outputs import check_json, write_json
from spacy_electra.data.atomic_folder import replaced_folder
from spacy_electra.model.inference.backend import Backend, choose_backend, passed_over
from spacy_electra.model.network.encoder import EncoderShape
from spacy_electra.model.precision import INT8
from spacy_electra.pipeline.agreement import agreement
from spacy_electra.pipeline.quantization import (
    Scored,
    encoder_sections,
    overrides_for,
    predict_in,
    score_pipeline,
    scored_names,
    shim_in,
)

FULL, OTHERS = "fp32", ("auto", INT8)
WIDTH = 9  # of a column, at least


@dataclass(frozen=True)
class Comparison:
    """A loaded pipeline, and the data to score it on."""

    nlp: Language
    sections: list[str]  # of the config, those of the encoders
    data: Path
    names: list[str]  # of the scores to show

    def score(self, precision: str) -> Scored:
        """Annotate the data in a precision, and score it."""
        predict_in(self.nlp, self.sections, precision)
        return score_pipeline(self.nlp, read_examples(self.nlp, self.data), self.names)


@clear_errors
def quantize_cli(
    pipeline: str = typer.Argument(..., metavar="PIPELINE", help="Folder of a pipeline, or an installed package"),
    data: Path = typer.Argument(..., metavar="DATA", help="Annotated documents to score on, a .spacy file"),
    out_dir: Path | None = typer.Argument(None, metavar="[OUT_DIR]", help="Folder for the pipeline in int8; optional"),
    scores: str = typer.Option("", "--scores", help="Scores to show, such as tag_acc,ents_f; else those of the config"),
    code: Path | None = typer.Option(
        None, "--code", "-c", help="Python file to import first, for registered functions"
    ),
    json_path: Path | None = typer.Option(None, "--json", help="File for the comparison"),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace an existing pipeline"),
) -> None:
    """Compare a pipeline in float32, "auto" and int8 on DATA, and write it in int8 to OUT_DIR.

    Prints scores, how far they move, the agreement with float32, and words per second on this machine. Scores move
    differently on other documents, so use documents that no choice was made on.

    \b
    Example:
      python -m spacy electra quantize training/pipeline/model-best corpus/dev.spacy models/small-int8
    """
    import_code(code)
    task = prepare_comparison(pipeline, data, scores=scores)
    check_outputs(out_dir, json_path, overwrite=overwrite)
    found = compare(task)
    is_json_written = True
    if json_path is not None:
        is_json_written = write_json(json_path, {"pipeline": pipeline, "data": str(data), "precisions": found})
    if out_dir is not None:
        with replaced_folder(out_dir, last="meta.json") as folder:
            spacy.load(pipeline, config=overrides_for(task.sections, INT8)).to_disk(folder)
        msg.good(f'Wrote {out_dir} with precision = "{INT8}"')
    if not is_json_written:
        raise typer.Exit(1)


def compare(task: Comparison) -> dict[str, dict[str, object]]:
    """Score and print one precision after another; returns the results for JSON."""
    msg.info(f"Scores in percent on {task.data}, how far they move, and what stays annotated alike")
    full = task.score(FULL)
    say(["", *task.names, "alike", "words/s"])
    say([FULL, *(f"{100 * full.scores[name]:.2f}" for name in task.names), "", f"{full.speed:,.0f}"])
    found = {FULL: described(full, 1.0)}
    for precision in OTHERS:
        scored = task.score(precision)
        alike = agreement(scored.docs, full.docs)
        moves = (f"{100 * (scored.scores[name] - full.scores[name]):+.2f}" for name in task.names)
        say([precision, *moves, f"{alike:.2%}", f"{scored.speed:,.0f}"])
        found[precision] = described(scored, alike)
    return found


def described(scored: Scored, alike: float) -> dict[str, object]:
    """The results of one precision as JSON values.

    alike: share of annotations that are equal to those in float32.
    """
    return {"scores": scored.scores, "annotated_alike": alike, "words_per_second": scored.speed}


def prepare_comparison(pipeline: str, data: Path, *, scores: str) -> Comparison:
    """Read and check all inputs before anything is scored. Raises ValueError or OSError."""
    nlp = spacy.load(pipeline)
    sections = encoder_sections(nlp)
    if not sections:
        raise ValueError(
            f"{pipeline} has no transformer of this package, nothing that could be in int8. Its components are "
            f"{', '.join(nlp.pipe_names)}: give a pipeline with spacy-electra.ElectraTransformer.v2."
        )
    for section in sections:
        check_int8(shim_in(nlp, section).shape)
    names = [name.strip() for name in scores.split(",") if name.strip()] or scored_names(nlp.config)
    if not names:
        raise ValueError(
            f"the config of {pipeline} weighs no scores ([training.score_weights]): name some with --scores."
        )
    if not read_examples(nlp, data):
        raise ValueError(f"{data} holds no documents, expected annotated ones to score on: give another file.")
    return Comparison(nlp, sections, data, names)


def check_int8(shape: EncoderShape) -> None:
    """Raise ValueError with the reason if an encoder of this shape cannot predict in int8 here."""
    cpu = torch.device("cpu")
    if choose_backend(INT8, cpu, shape).prediction is not Backend.NATIVE_INT8:
        missing = passed_over(INT8, cpu, shape)[0]
        raise ValueError(
            f"this pipeline cannot predict in int8 here: {'; '.join(missing.lacks)}. "
            f"To change that: {'; '.join(missing.remedies)}."
        )


def check_outputs(out_dir: Path | None, json_path: Path | None, *, overwrite: bool) -> None:
    """Create the folders that are written last, so that no work is lost. Raises ValueError or OSError."""
    if out_dir is not None:
        check_pipeline_folder(out_dir, overwrite=overwrite)
    if json_path is not None:
        if out_dir is not None and json_path.resolve() == out_dir.resolve():
            raise ValueError(f"--json {json_path} is OUT_DIR, a folder: give the path of a file.")
        if out_dir is not None and out_dir.resolve() in json_path.resolve().parents:
            raise ValueError(f"--json {json_path} is inside OUT_DIR, which the pipeline replaces: give another path.")
        check_json(json_path)


def check_pipeline_folder(out_dir: Path, *, overwrite: bool) -> None:
    """Raise ValueError if a pipeline cannot be written into this folder."""
    if out_dir.exists() and not out_dir.is_dir():
        raise ValueError(f"{out_dir} is a file: give a folder for the pipeline.")
    if out_dir.exists() and any(out_dir.iterdir()):
        if not (out_dir / "meta.json").is_file():
            raise ValueError(f"{out_dir} holds something, but no pipeline: give another folder, or an empty one.")
        if not overwrite:
            raise ValueError(f"{out_dir} holds a pipeline already: add --overwrite, or give another folder.")
    out_dir.parent.mkdir(parents=True, exist_ok=True)


def read_examples(nlp: Language, data: Path) -> list[Example]:
    """The documents of a .spacy file. Raises ValueError if they cannot be read."""
    if not data.is_file():
        raise ValueError(f"there is no file {data}: give a .spacy file of annotated documents.")
    if data.suffix != SPACY:
        raise ValueError(f"{data} is no .spacy file: annotated documents become one by `python -m spacy convert`.")
    try:
        return list(Corpus(data)(nlp))
    except Exception as error:  # zlib's, msgpack's and spaCy's own, which share no class
        raise damaged(data, error) from error


def say(cells: Sequence[str]) -> None:
    """Print a line of the table."""
    first, *others = cells
    print(first.ljust(12) + "".join(cell.rjust(max(WIDTH, len(cell) + 2)) for cell in others), flush=True)
