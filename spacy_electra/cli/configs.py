"""Assemble configs from the packaged templates; writes no files. The template is the one home of a setting's default.

A pretraining config is `pretrain.cfg` with the changes of a size. A pipeline's config is `pipeline.cfg` with blocks of
`components.cfg`, filled with spaCy's own defaults, so that `spacy init fill-config` has nothing to add.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from confection import Config
from spacy.util import get_lang_class, load_model_from_config

from spacy_electra.cli.errors import check_name
from spacy_electra.cli.start import EVAL_FREQUENCY, Start
from spacy_electra.training.schema import CORPORA

TEMPLATES = Path(__file__).parent / "templates"
SIZES = ("tiny", "mini", "small", "base", "large")
OBJECTIVES = ("electra", "mlm")
SECTION_ORDER = ("paths", "system", "model", "nlp", "components", "corpora", "training", "pretraining", "initialize")
TRANSFORMER = "transformer"
LABELS_WEIGHT = 0.25  # rows of labelled documents for each other row (docs/experiments/own-text.md)


def pretrain_config(size: str, *, gpu: bool, objective: str = OBJECTIVES[0]) -> Config:
    """The config that `pretrain` takes. Raises ValueError for an unknown size or objective."""
    check_name(size, SIZES, what="size")
    check_name(objective, OBJECTIVES, what="objective")
    names = [f"size-{size}", f"objective-{objective}", f"objective-{objective}-{size}"]
    names += ["pretrain-gpu"] if gpu else []
    config = _template("pretrain.cfg")
    for name in names:  # those that differ in nothing have no file
        if (TEMPLATES / f"{name}.cfg").is_file():
            config = _changed(config, _template(f"{name}.cfg"))
    return config


def start_config(start: Start, *, gpu: bool, objective: str = OBJECTIVES[0]) -> Config:
    """The config for `pretrain` that starts from existing weights. Raises ValueError for an unknown objective."""
    config = pretrain_config(start.size, gpu=gpu, objective=objective)
    generator = config["model"]["generator"] if objective == "mlm" else start.generator
    config["paths"]["init"] = start.name
    config["model"] |= {
        "initialization": "local",
        "detach_output_embeddings": True,
        "discriminator": start.discriminator,
        "generator": generator,
    }
    config["model"]["window"] = min(config["model"]["window"], start.positions)
    if not gpu:
        config["training"]["eval_frequency"] = EVAL_FREQUENCY
    config["training"]["optimizer"]["learn_rate"] = start.learn_rate
    return config


def with_labels(config: Config, store: str) -> Config:
    """A pretraining config that mixes the text of labelled documents into its rows, by `LABELS_WEIGHT`.

    store: folder that `tokenize` made of these documents.
    """
    return _changed(config, Config({CORPORA: {"labels": {"path": store, "weight": LABELS_WEIGHT}}}))


def pipeline_config(components: Sequence[str], *, size: str, lang: str, gpu: bool, frozen: bool) -> Config:
    """The config that `spacy train` takes: one transformer, and components that listen to it.

    size: of the transformer, or the nearest one; it decides the learning rates of its layers.
    frozen: source the transformer from the pipeline that `encoder_config` makes, and do not train it.
    Raises ValueError for an unknown component, size or language.
    """
    check_name(size, SIZES, what="size")
    blocks = _template("components.cfg", interpolate=True)["components"]
    for name in components:
        check_name(name, blocks, what="component")
    if not components:
        raise ValueError(f"a pipeline needs a component: give --pipeline one or more of {', '.join(blocks)}.")
    names = list(dict.fromkeys(components))
    config = _base(lang, gpu=gpu)
    if (TEMPLATES / f"pipeline-size-{size}.cfg").is_file():
        config = _changed(config, _template(f"pipeline-size-{size}.cfg"))
    config["components"].update({name: blocks[name] for name in names})
    config["nlp"]["pipeline"] = [TRANSFORMER, *names]
    if not frozen:
        return _filled(config)
    filled = _filled(_changed(config, _template("pipeline-frozen.cfg")))
    filled["components"][TRANSFORMER] = {"source": "${paths.encoder}"}
    del filled["paths"]["discriminator"]
    return filled


def encoder_config(*, lang: str, gpu: bool) -> Config:
    """The config from which `spacy assemble` makes a pipeline with only the transformer."""
    config = _base(lang, gpu=gpu)
    del config["training"]["optimizer"]  # assembling resolves it without variables
    config["nlp"]["pipeline"] = [TRANSFORMER]
    # assembling does not ask [training] what to do before it saves
    config["initialize"] = {"after_init": config["training"].pop("before_to_disk")}
    return _filled(config)


def _base(lang: str, *, gpu: bool) -> Config:
    try:
        get_lang_class(lang)
    except ImportError as error:
        raise ValueError(
            f"spaCy has no language {lang!r}: give --lang a code such as 'en' or 'de', or 'xx' for several languages."
        ) from error
    config = _template("pipeline.cfg")
    if gpu:
        config = _changed(config, _template("pipeline-gpu.cfg"))
    config["nlp"]["lang"] = lang
    return config


def _filled(config: Config) -> Config:
    """The config with every default written out, as `spacy init fill-config` writes it."""
    nlp = load_model_from_config(config, auto_fill=True, validate=False)
    return load_model_from_config(nlp.config).config


def _template(name: str, *, interpolate: bool = False) -> Config:
    return Config().from_disk(TEMPLATES / name, interpolate=interpolate)


def _changed(config: Config, changes: Config) -> Config:
    """The config with the values of `changes`; keys stay in the config's order, new ones come last."""
    return Config(_merged(config, changes))


def _merged(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    answer = dict(old)
    for key, value in new.items():
        both = isinstance(value, Mapping) and isinstance(old.get(key), Mapping)
        answer[key] = _merged(old[key], value) if both else value
    return answer


def config_text(config: Config) -> str:
    """The text of the config file: each section is followed by its subsections."""
    blocks = re.split(r"\n\n(?=\[)", config.to_str(interpolate=False).strip())
    by_name = {block.split("\n", 1)[0][1:-1]: block for block in blocks}
    tops = sorted(config, key=SECTION_ORDER.index)
    names = [name for top in tops for name in _section_names(config[top], top)]
    return "\n\n".join(by_name[name] for name in names) + "\n"


def _section_names(section: Mapping[str, Any], name: str) -> Iterator[str]:
    yield name
    for key, value in section.items():
        if isinstance(value, Mapping):
            yield from _section_names(value, f"{name}.{key}")
