"""Find the folder of a model inside a run."""

from pathlib import Path


def model_folder(name: str, *, best: bool = False) -> str:
    """The model in a run's folder. A model's own folder and a name on the hub are returned unchanged.

    Raises FileNotFoundError for a run without such a model, ValueError for a spaCy pipeline.
    """
    wanted = "model-best" if best else "model-last"
    run = Path(name)
    found = run / wanted if (run / wanted).is_dir() else run
    if _is_pipeline(found):
        raise ValueError(
            f"{found} is a spaCy pipeline, expected a pretrained model: give the folder of the run that "
            f"`spacy electra pretrain` wrote, or the discriminator that the pipeline was trained from."
        )
    if found != run:
        return str(found)
    is_run = (run / "config.cfg").is_file() or (run / "latest").is_file()
    if best or is_run:
        why = "it comes in the second half of a run" if best else "the run has not ended, continue with --resume"
        raise FileNotFoundError(f"{run} has no {wanted}: {why}.")
    return name


def config_beside(folder: Path) -> Path | None:
    """The config of the run that a model's folder, or one inside it, belongs to; None if there is none."""
    found = (place / "config.cfg" for place in (folder, *folder.absolute().parents[:2]))
    return next((path for path in found if path.is_file() and not _is_of_a_pipeline(path)), None)


def _is_pipeline(folder: Path) -> bool:
    """Whether spaCy saved this folder: it has a config, and a file that only `nlp.to_disk` writes."""
    config = folder / "config.cfg"
    return (folder / "meta.json").is_file() and config.is_file() and _is_of_a_pipeline(config)


def _is_of_a_pipeline(config: Path) -> bool:
    """Whether the config is spaCy's own. It has the same name, and a project may hold one above its models."""
    return "[nlp]" in config.read_text(encoding="utf8", errors="replace").splitlines()
