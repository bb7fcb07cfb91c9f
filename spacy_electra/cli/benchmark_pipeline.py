"""`spacy electra benchmark pipeline`: compare with the same weights in spacy-transformers' own model."""

import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from pathlib import Path

import torch
import typer
from wasabi import msg

from spacy_electra.benchmark.apart import Build, in_turn_apart
from spacy_electra.benchmark.measure import describe_machine
from spacy_electra.benchmark.pipeline_programs import PipelineSource, component, slots_of, update, whole
from spacy_electra.benchmark.report import open_report, versions
from spacy_electra.benchmark.stock import transformer_of, write_roberta
from spacy_electra.cli.benchmark_pretrain import Row, make_row, show_row, unit_of
from spacy_electra.cli.documents import corpus_files, open_documents
from spacy_electra.cli.errors import clear_errors
from spacy_electra.data.corpus.skipped import Skipped
from spacy_electra.model.files.huggingface import save_encoder
from spacy_electra.pipeline.agreement import agreement
from spacy_electra.pipeline.transformer import shim_of_transformer

SINGLE = 50  # documents that are read one at a time as well
CPU_DEVICE = torch.device("cpu")


@dataclass(frozen=True)
class Texts:
    """The texts of a file."""

    name: str
    texts: list[str]


@dataclass(frozen=True)
class Sources:
    """The pipelines to compare."""

    ours: PipelineSource
    theirs: PipelineSource
    roberta: PipelineSource | None  # a transformer in the shape of RoBERTa-base


@clear_errors
def benchmark_pipeline(
    pipeline: str = typer.Argument(..., metavar="PIPELINE", help="Folder of a pipeline or an ELECTRA discriminator"),
    texts: list[Path] = typer.Argument(..., metavar="TEXTS...", help="Files of texts, each with rows of its own"),
    documents: int = typer.Option(500, "--documents", min=1, help="Maximum documents to read from each file"),
    rounds: int = typer.Option(4, "--rounds", min=1, help="Number of rounds"),
    threads: int = typer.Option(1, "--threads", min=1, help="Number of torch threads"),
    roberta: bool = typer.Option(True, help="Also run spacy-transformers' model in the shape of RoBERTa-base"),
    json_path: Path | None = typer.Option(None, "--json", help="File for the figures"),
) -> None:
    """Compare the speed of a transformer and its pipeline with spacy-transformers' own model.

    Both have the same weights and take turns. Rates are words per CPU-second of the fastest round; memory is that of
    each program's process. "Tokens per piece" counts what the encoder computes, padding and overlap included.

    \b
    Example:
      python -m spacy electra benchmark pipeline training/pipeline/model-best dev.txt --json pipeline.json
    """
    torch.set_num_threads(threads)
    files = [read_texts(path, most=documents) for path in texts]
    with tempfile.TemporaryDirectory() as folder:
        sources = write_stock(pipeline, Path(folder), roberta=roberta)
        facts = {
            "machine": describe_machine(CPU_DEVICE),
            "versions": versions("torch", "transformers", "spacy", "spacy-transformers"),
            "rows": [],
        }
        report = open_report(json_path, facts)
        msg.info(describe_machine(CPU_DEVICE))
        for file in files:
            for row in rows_for(file, sources, rounds=rounds, threads=threads):
                report.add("rows", asdict(row))
                show_row(row)


def read_texts(path: Path, *, most: int) -> Texts:
    """Read the first texts of a file. Raises ValueError if it has none.

    most: maximum number of texts.
    """
    found = islice(open_documents(corpus_files([str(path)]), skipped=Skipped()), most)
    texts = [document.text for document in found]
    if not texts:
        raise ValueError(f"{path} holds no text, expected some to time pipelines on: give another file.")
    return Texts(path.name, texts)


def write_stock(pipeline: str, folder: Path, *, roberta: bool) -> Sources:
    """Write the weights of a pipeline's transformer for spacy-transformers' model; returns the pipelines to compare.

    folder: for these weights.
    roberta: also write a model in the shape of RoBERTa-base.
    Raises ValueError if the pipeline has no transformer of this package.
    """
    ours = PipelineSource(pipeline)
    shim = shim_of_transformer(transformer_of(ours.open()).model)
    save_encoder(shim.module.float(), shim.tokenizer, folder / "electra")  # type: ignore[arg-type]
    if roberta:
        write_roberta(shim.tokenizer, folder / "roberta")
    return Sources(
        ours=ours,
        theirs=PipelineSource(pipeline, stock=folder / "electra"),
        roberta=PipelineSource(None, stock=folder / "roberta") if roberta else None,
    )


def rows_for(file: Texts, sources: Sources, *, rounds: int, threads: int) -> Iterator[Row]:
    """Measure the table rows for the texts of one file."""
    texts = file.texts

    def compare(what: str, mine: Build, other: Build) -> Row:
        programs = {"ours": mine, "theirs": other}
        timed = in_turn_apart(programs, rounds=rounds, device=CPU_DEVICE, threads=threads, warm_up=1)
        return make_row(f"{file.name}: {what}", timed, unit=unit_of("words", CPU_DEVICE))

    ours, theirs = sources.ours, sources.theirs
    tokens = tokens_per_piece(sources, texts)
    what = f"component, {tokens[0]:.2f} / {tokens[1]:.2f} tokens per piece"
    yield compare(what, partial(component, ours, texts), partial(component, theirs, texts))
    alone = partial(component, texts=texts[:SINGLE], batch=1)
    yield compare("component, one document a call", partial(alone, ours), partial(alone, theirs))
    if sources.roberta is not None:
        some = partial(component, texts=texts[: max(1, len(texts) // 10)])  # it is slow
        yield compare("component / stock, RoBERTa-base shape", partial(some, ours), partial(some, sources.roberta))
    if not ours.is_whole:
        return
    share = agreement(*(list(source.open().pipe(texts)) for source in (ours, theirs)))
    what = f"whole pipeline, {share:.1%} annotated alike"
    yield compare(what, partial(whole, ours, texts), partial(whole, theirs, texts))
    yield compare("training step", partial(update, ours, texts), partial(update, theirs, texts))


def tokens_per_piece(sources: Sources, texts: list[str]) -> tuple[float, float]:
    """Tokens that ours and theirs compute for each piece of the texts, padding and overlap included."""
    ours, theirs = sources.ours.open(), sources.theirs.open()
    pieces = sum(len(one.ids) for one in shim_of_transformer(transformer_of(ours).model).tokenizer.encode(texts))
    return slots_of(ours, texts) / max(1, pieces), slots_of(theirs, texts) / max(1, pieces)
