"""spaCy's own pipeline without a transformer, as `spacy init config` writes it: what a user has without pretraining.

Example: python scripts/cnn_config.py corpus/software/configs/cnn.cfg --pipeline tagger,parser,ner --max-steps 1000
"""

from pathlib import Path

import typer
from confection import Config
from spacy.cli.init_config import init_config
from wasabi import msg

from spacy_electra.cli.errors import clear_errors


@clear_errors
def main(
    output: Path = typer.Argument(..., help="File for the config"),
    lang: str = typer.Option("en", help="Code of the language"),
    pipeline: str = typer.Option(..., help="Components, separated by commas"),
    max_steps: int = typer.Option(..., help="Steps of a run"),
    eval_frequency: int = typer.Option(..., help="Steps between two evaluations, the length of a run at most"),
) -> None:
    """Write the config of `--optimize efficiency` with a length of its own."""
    config = cnn_config([name.strip() for name in pipeline.split(",")], lang=lang)
    config["training"] |= {"max_steps": max_steps, "eval_frequency": min(eval_frequency, max_steps)}
    output.parent.mkdir(parents=True, exist_ok=True)
    config.to_disk(output)
    msg.good(f"{output}: spaCy's CNN, {max_steps:,} steps")


def cnn_config(components: list[str], *, lang: str, optimize: str = "efficiency") -> Config:
    """What `spacy init config` writes."""
    return init_config(lang=lang, pipeline=list(components), optimize=optimize, gpu=False, silent=True)


def reading_config(components: list[str], *, lang: str) -> Config:
    """The same, but every component reads the CNN: the text classifier of `efficiency` only counts words.

    That is what `--optimize accuracy` writes, with the CNN of `efficiency`, and without vectors.
    """
    config = cnn_config(components, lang=lang, optimize="accuracy")
    config["components"]["tok2vec"] = cnn_config(["tagger"], lang=lang)["components"]["tok2vec"]
    config["paths"]["vectors"] = None
    return config


if __name__ == "__main__":
    typer.run(main)
