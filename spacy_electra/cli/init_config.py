"""`spacy electra init-config`: write complete configs for pretraining and fine-tuning."""

from collections.abc import Iterator
from pathlib import Path

import typer
from confection import Config
from wasabi import msg

from spacy_electra.cli.configs import (
    SIZES,
    config_text,
    encoder_config,
    pipeline_config,
    pretrain_config,
    start_config,
    with_labels,
)
from spacy_electra.cli.device import say_if_cupy_is_missing
from spacy_electra.cli.errors import clear_errors
from spacy_electra.cli.start import read_start
from spacy_electra.data.atomic_folder import replaced_folder


@clear_errors
def init_config_cli(
    out_dir: Path = typer.Argument(..., help="Folder for pretrain.cfg and pipeline.cfg"),
    lang: str = typer.Option("en", "--lang", "-l", help="Language code of the pipeline"),
    size: str | None = typer.Option(
        None, "--size", "-s", help="tiny, mini (for CPUs), small, base, large (as in the paper); tiny if omitted"
    ),
    start: str | None = typer.Option(
        None, "--start", help="Start from these weights and their shape: a folder or a hub name; null for none"
    ),
    labels: Path | None = typer.Option(
        None, "--labels", help="Store of the labelled documents, made with `tokenize`: a fifth of the rows come from it"
    ),
    objective: str = typer.Option("electra", "--objective", help="electra, or mlm for a masked language model"),
    pipeline: str = typer.Option("ner", "--pipeline", "-p", help="Components on the transformer, comma-separated"),
    gpu: bool = typer.Option(False, "--gpu", "-G", help="Configs for a GPU: larger batches, memory allocated by torch"),
    frozen: bool = typer.Option(False, "--frozen", help="Keep the transformer frozen; also writes encoder.cfg"),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace existing configs"),
) -> None:
    """Write a config for pretraining and one for `spacy train`.

    \b
    Example:
      python -m spacy electra init-config configs --size tiny --pipeline ner,textcat,parser
    """
    start = None if start == "null" else start
    if size is not None and start is not None:
        raise ValueError(f"--size {size} and --start {start} both say how large the model is: give one of them.")
    given = None if start is None else read_start(start)
    size = given.size if given else size or SIZES[0]
    names = [name.strip() for name in pipeline.split(",") if name.strip()]
    configs = {
        "pretrain.cfg": start_config(given, gpu=gpu, objective=objective)
        if given
        else pretrain_config(size, gpu=gpu, objective=objective)
    }
    if labels is not None:
        configs["pretrain.cfg"] = with_labels(configs["pretrain.cfg"], str(labels))
    if frozen:
        configs["encoder.cfg"] = encoder_config(lang=lang, gpu=gpu)
    configs["pipeline.cfg"] = pipeline_config(names, size=size, lang=lang, gpu=gpu, frozen=frozen)
    _write(configs, out_dir, overwrite=overwrite)
    msg.good(f"Wrote {', '.join(configs)} into {out_dir}")
    print(next_steps(out_dir, start=start, labels=labels, gpu=gpu, frozen=frozen))
    if gpu:
        say_if_cupy_is_missing()


def next_steps(out_dir: Path, *, start: str | None, labels: Path | None, gpu: bool, frozen: bool) -> str:
    """What to do with the configs in `out_dir`: the ways to a pipeline, with their commands."""
    pretraining = list(next_commands(out_dir, start=start, labels=labels, gpu=gpu, frozen=frozen))
    ways = [("Pretrain on your raw text, CORPUS, and fine-tune:", pretraining)]
    if start is not None and not frozen:
        as_it_is = f"{pretraining[-1]} --paths.discriminator {start}"
        ways = [
            (f"Fine-tune {start} as it is:", [as_it_is]),
            ("Or pretrain it on your raw text, CORPUS, first:", pretraining),
        ]
    return "\n".join("\n  python -m spacy ".join([title, *commands]) for title, commands in ways)


def next_commands(out_dir: Path, *, start: str | None, labels: Path | None, gpu: bool, frozen: bool) -> Iterator[str]:
    """The commands that lead from the configs in `out_dir` to a pipeline; CORPUS stands for the user's files."""
    use_gpu = " --gpu-id 0" if gpu else ""
    source = f" --from {start}" if start is not None else ""
    tokenizer = "corpus/tokenizer"
    yield f"electra train-tokenizer CORPUS {tokenizer}{source}"
    yield f"electra tokenize CORPUS corpus/pretrain --tokenizer {tokenizer}"
    if labels is not None:
        yield f"electra tokenize train.spacy {labels} --tokenizer {tokenizer}"
    yield f"electra pretrain {out_dir / 'pretrain.cfg'} --output training/pretrain{use_gpu}"
    if frozen:
        yield f"assemble {out_dir / 'encoder.cfg'} training/encoder"
    paths = "--paths.train train.spacy --paths.dev dev.spacy"
    yield f"train {out_dir / 'pipeline.cfg'} --output training/pipeline {paths}{use_gpu}"


def _write(configs: dict[str, Config], out_dir: Path, *, overwrite: bool) -> None:
    for name in configs:
        if (out_dir / name).exists() and not overwrite:
            raise ValueError(f"{out_dir / name} is there already: add --overwrite, or give another folder.")
    with replaced_folder(out_dir, last=next(iter(configs)), gone=()) as folder:
        for name, config in configs.items():
            (folder / name).write_text(config_text(config), encoding="utf8", newline="\n")
