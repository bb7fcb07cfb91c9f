"""`spacy electra benchmark pipeline`: a pipeline beside the same weights in spacy-transformers' own component."""

import json
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

import spacy
import torch
import typer
from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Example
from wasabi import msg

from spacy_electra.benchmark.measure import Step, describe_machine, in_turn
from spacy_electra.cli.benchmark.pretrain import Row, make_row, show
from spacy_electra.cli.benchmark.stock import (
    TRANSFORMER,
    agreement,
    blank_with,
    counted_slots,
    optimizer,
    transformer_of,
    with_stock,
    write_roberta,
)
from spacy_electra.cli.documents import MAX_FAULTS, open_documents
from spacy_electra.cli.errors import clear_errors
from spacy_electra.data.skipped import Skipped
from spacy_electra.model.hub import find_discriminator
from spacy_electra.model.huggingface import load_encoder, save_encoder
from spacy_electra.pipeline.transformer import encoder_of

BATCH = 256  # documents that are handed to a component at once, `nlp.batch_size` of the generated configs
SINGLE = 50  # documents that are read one at a time as well
UPDATED = 48  # documents of a training step
CPU = torch.device("cpu")


@clear_errors
def benchmark_pipeline(
    pipeline: str = typer.Argument(..., metavar="PIPELINE", help="A pipeline on disk, or an ELECTRA discriminator"),
    texts: list[Path] = typer.Argument(..., metavar="TEXTS...", help="Files of texts; each has lines of its own"),
    documents: int = typer.Option(500, "--documents", min=1, help="Most documents to take of each file"),
    rounds: int = typer.Option(4, "--rounds", min=1, help="Times that everything runs"),
    threads: int = typer.Option(1, "--threads", min=1, help="Threads of torch"),
    roberta: bool = typer.Option(True, help="Also run a stock component in the shape of RoBERTa-base"),
    json_path: Path | None = typer.Option(None, "--json", help="File for the figures"),
) -> None:
    """Time a transformer, and the whole pipeline, beside spacy-transformers' own model on the same weights, in turn.

    Rates are words per CPU-second of the fastest round. Slots per piece is what the encoder computes, padding and
    overlap included, for each piece of the texts.

    \b
    Example:
      python -m spacy electra benchmark pipeline training/pipeline/model-best dev.txt --json pipeline.json
    """
    torch.set_num_threads(threads)
    msg.info(describe_machine(CPU))
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        for path in texts:
            found = list(islice(open_documents([path], skipped=Skipped(), max_faults=MAX_FAULTS), documents))
            for row in rows_for(path.name, [one.text for one in found], pipeline, Path(folder), rounds, roberta):
                rows.append(row)
                show(row)
    if json_path is not None:
        json_path.parent.mkdir(parents=True, exist_ok=True)
        report = {"machine": describe_machine(CPU), "rows": [asdict(row) for row in rows]}
        json_path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf8")


def rows_for(name: str, texts: list[str], pipeline: str, folder: Path, rounds: int, roberta: bool) -> Iterator[Row]:
    """The lines for the texts of one file."""
    ours, is_whole = open_pipeline(pipeline)
    weights = folder / "electra"
    shim = encoder_of(transformer_of(ours).model)
    save_encoder(shim.module.float(), shim.tokenizer, weights)  # type: ignore[arg-type]
    theirs = with_stock(open_pipeline(pipeline)[0], weights)
    pieces = sum(len(one.ids) for one in shim.tokenizer.encode(texts))
    slots = [slots_of(nlp, texts) / max(1, pieces) for nlp in (ours, theirs)]

    def compare(what: str, mine: Step, other: Step) -> Row:
        timed = in_turn({"ours": mine, "theirs": other}, rounds=rounds, device=CPU, warm_up=1)
        return make_row(f"{name}: {what}", timed, unit="words")

    what = f"component, {slots[0]:.2f} / {slots[1]:.2f} slots per piece"
    yield compare(what, component_step(ours, texts), component_step(theirs, texts))
    few = texts[:SINGLE]
    yield compare(
        "component, one document a call", component_step(ours, few, batch=1), component_step(theirs, few, batch=1)
    )
    if roberta:
        write_roberta(shim.tokenizer, folder / "roberta")
        large = with_stock(spacy.blank("en"), folder / "roberta")
        some = texts[: max(1, len(texts) // 10)]  # it is slow
        yield compare("component / stock, RoBERTa-base shape", component_step(ours, some), component_step(large, some))
    if not is_whole:
        return
    share = agreement(list(ours.pipe(texts)), list(theirs.pipe(texts)))
    yield compare(
        f"whole pipeline, {share:.1%} of tokens annotated alike", pipe_step(ours, texts), pipe_step(theirs, texts)
    )
    yield compare("training step", update_step(ours, texts), update_step(theirs, texts))


def open_pipeline(pipeline: str) -> tuple[Language, bool]:
    """A pipeline, and whether it is more than a transformer. Raises ValueError for one without our transformer."""
    if not (Path(pipeline) / "meta.json").is_file():
        found = find_discriminator(pipeline)
        load_encoder(str(found))
        return blank_with({"@architectures": "spacy-electra.ElectraTransformer.v1", "name": str(found)}), False
    nlp = spacy.load(pipeline)
    if TRANSFORMER not in nlp.pipe_names or transformer_of(nlp).model.name != "electra_transformer":
        raise ValueError(f"{pipeline} has no component {TRANSFORMER!r} with spacy-electra.ElectraTransformer.v1.")
    return nlp, True


def slots_of(nlp: Language, texts: list[str]) -> int:
    """Slots that the transformer computes for the texts."""
    with counted_slots(nlp) as counts:
        component_step(nlp, texts)()
    return sum(counts)


def component_step(nlp: Language, texts: list[str], *, batch: int = BATCH) -> Step:
    """Run the transformer alone over the texts, as users do; gives their words. Splitting into words is not timed.

    batch: documents that it is handed at once, of which `pipe` makes batches of like lengths.
    """
    component, docs = transformer_of(nlp), [nlp.make_doc(text) for text in texts]
    words = float(sum(map(len, docs)))

    def step() -> float:
        for doc in component.pipe(docs, batch_size=batch):
            doc._.trf_data = None  # as if the document were done with
        return words

    return step


def pipe_step(nlp: Language, texts: list[str]) -> Step:
    """Run the whole pipeline over the texts; gives their words."""

    def step() -> float:
        return float(sum(len(doc) for doc in nlp.pipe(texts, batch_size=BATCH)))

    return step


def update_step(nlp: Language, texts: list[str]) -> Step:
    """Update all components on the first texts, which their own annotations stand in for gold; gives their words."""
    annotated: list[Doc] = list(nlp.pipe(texts[:UPDATED]))
    for doc in annotated:
        doc.cats = certain(doc.cats)
    sgd: Any = optimizer()

    def step() -> float:
        examples = [Example(nlp.make_doc(doc.text), doc) for doc in annotated]
        nlp.update(examples, sgd=sgd, drop=0.1)
        return float(sum(map(len, annotated)))

    return step


def certain(cats: dict[str, float]) -> dict[str, float]:
    """Categories as gold: 1 for the most likely one, 0 for all others."""
    likely = max(cats, key=lambda name: cats[name], default=None)
    return {name: float(name == likely) for name in cats}
