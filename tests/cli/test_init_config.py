"""What init-config writes: complete, accepted by spaCy, equal to `configs/`."""

import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from spacy.cli.debug_config import debug_config
from spacy.cli.init_config import fill_config
from spacy.util import load_config
from transformers import BertConfig, BertModel

from spacy_electra.cli.configs import SIZES

Invoke = Callable[..., Any]
CONFIGS = Path(__file__).parents[2] / "configs"
ALL = "tagger,morphologizer,parser,ner,textcat"
REST = "trainable_lemmatizer,senter,spancat,textcat_multilabel"
# file in configs/ -> file that init-config writes, and its options
PRINTED = {
    **{f"pretrain-{size}.cfg": ("pretrain.cfg", "--size", size) for size in SIZES},
    "ner.cfg": ("pipeline.cfg", "--pipeline", "ner"),
    "textcat.cfg": ("pipeline.cfg", "--pipeline", "textcat"),
    "parser.cfg": ("pipeline.cfg", "--pipeline", "parser"),
    "all.cfg": ("pipeline.cfg", "--pipeline", ALL),
    "frozen.cfg": ("pipeline.cfg", "--pipeline", ALL, "--frozen"),
    "encoder.cfg": ("encoder.cfg", "--frozen"),
}
PIPELINES = ("ner", "textcat", "parser", "all", "frozen", "encoder")
# layers, width, feed_forward, heads, embedding; generator's width, feed_forward, heads (Clark et al. 2020, table 6)
PAPER = {
    "small": (12, 256, 1024, 4, 128, 64, 256, 1),
    "base": (12, 768, 3072, 12, 768, 256, 1024, 4),
    "large": (24, 1024, 4096, 16, 1024, 256, 1024, 4),
}
# window, rows a step, learning rate, steps, mask rate
RECIPES = {
    "small": (128, 128, 5e-4, 1_000_000, 0.15),
    "base": (512, 256, 2e-4, 766_000, 0.15),
    "large": (512, 2048, 2e-4, 400_000, 0.25),
}


@pytest.mark.parametrize("name", PRINTED)
def test_the_configs_folder_holds_what_init_config_writes(electra: Invoke, tmp_path: Path, name: str):
    written, *options = PRINTED[name]
    electra("init-config", tmp_path, *options)
    again = f"spacy electra init-config DIR {' '.join(options)}; cp DIR/{written} configs/{name}"
    assert (tmp_path / written).read_text() == (CONFIGS / name).read_text(), again


def test_the_configs_folder_holds_nothing_else():
    assert {path.name for path in CONFIGS.glob("*.cfg")} == set(PRINTED)


@pytest.mark.parametrize("size", PAPER)
def test_sizes_have_the_numbers_of_the_paper(size: str):
    config = load_config(CONFIGS / f"pretrain-{size}.cfg", interpolate=True)
    model, training = config["model"], config["training"]
    big, small = model["discriminator"], model["generator"]
    assert (*big.values(), small["width"], small["feed_forward"], small["heads"]) == PAPER[size]
    assert small["layers"] == big["layers"]
    recipe = (model["window"], training["batch_rows"], training["optimizer"]["learn_rate"])
    assert (*recipe, training["max_steps"], training["mask_rate"]) == RECIPES[size]


@pytest.mark.parametrize("size", SIZES)
def test_every_masked_language_model_passes_the_check(electra: Invoke, tmp_path: Path, size: str):
    electra("init-config", tmp_path, "--size", size, "--objective", "mlm")
    assert "is valid" in electra("debug", "config", tmp_path / "pretrain.cfg")
    config = load_config(tmp_path / "pretrain.cfg", interpolate=True)
    assert (config["model"]["objective"], config["model"]["generator"]) == ("mlm", None)
    assert config["training"]["optimizer"]["learn_rate"] <= 1e-3


@pytest.mark.parametrize("size", SIZES)
def test_every_pretraining_config_passes_the_check(electra: Invoke, size: str):
    assert "is valid" in electra("debug", "config", CONFIGS / f"pretrain-{size}.cfg")


@pytest.mark.parametrize(
    "name",
    [*(f"{name}{device}" for name in PIPELINES if name != "frozen" for device in ("", " --gpu")), "rest"],
)
def test_spacy_has_nothing_to_fill_in_and_nothing_to_complain_of(electra: Invoke, tmp_path: Path, name: str):
    name, _, device = name.partition(" ")
    path = CONFIGS / f"{name}.cfg"
    if name == "rest" or device:
        written, *options = PRINTED.get(path.name, ("pipeline.cfg", "--pipeline", REST, "--lang", "de"))
        electra("init-config", tmp_path, *options, *device.split())
        path = tmp_path / written
    fill_config(tmp_path / "filled.cfg", path, silent=True)
    assert load_config(tmp_path / "filled.cfg") == load_config(path)
    debug_config(path)


def test_a_frozen_transformer_comes_from_another_pipeline_and_annotates():
    config = load_config(CONFIGS / "frozen.cfg", interpolate=True)
    assert config["components"]["transformer"] == {"source": "training/encoder"}
    assert config["training"]["frozen_components"] == config["training"]["annotating_components"] == ["transformer"]


def test_gpu_asks_torch_for_memory_and_takes_larger_batches(electra: Invoke, tmp_path: Path):
    electra("init-config", tmp_path, "--pipeline", ALL, "--gpu")
    cpu, gpu = load_config(CONFIGS / "all.cfg"), load_config(tmp_path / "pipeline.cfg")
    assert (cpu["system"]["gpu_allocator"], gpu["system"]["gpu_allocator"]) == (None, "pytorch")
    assert gpu["training"]["batcher"]["size"] > cpu["training"]["batcher"]["size"]
    assert gpu["nlp"]["batch_size"] > cpu["nlp"]["batch_size"]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--objective", "mml"), "unknown objective 'mml': did you mean 'mlm'?"),
        (("--size", "smal"), "unknown size 'smal': did you mean 'small'?"),
        (("--pipeline", "ner,texcat"), "unknown component 'texcat': did you mean 'textcat'?"),
        (("--pipeline", ","), "a pipeline needs a component"),
        (("--lang", "qq"), "spaCy has no language 'qq'"),
    ],
)
def test_what_is_unknown_is_named_and_nothing_is_written(
    complaint: Invoke, tmp_path: Path, options: tuple[str, str], expected: str
):
    assert expected in complaint("init-config", tmp_path / "new", *options)
    assert not (tmp_path / "new").exists()


def test_configs_are_replaced_only_when_asked(electra: Invoke, complaint: Invoke, tmp_path: Path):
    (tmp_path / "pretrain.cfg").write_text("mine")
    assert "add --overwrite" in complaint("init-config", tmp_path)
    assert (tmp_path / "pretrain.cfg").read_text() == "mine"
    electra("init-config", tmp_path, "--overwrite")
    assert (tmp_path / "pretrain.cfg").read_text() == (CONFIGS / "pretrain-tiny.cfg").read_text()


@pytest.mark.skipif(find_spec("cupy") is not None or sys.platform == "darwin", reason="nothing is missing")
def test_that_spacy_will_ask_for_cupy_is_said_before(electra: Invoke, tmp_path: Path):
    assert "pip install cupy-cuda12x" in electra("init-config", tmp_path / "gpu", "--gpu")
    assert "cuda12x" not in electra("init-config", tmp_path / "cpu")


@pytest.mark.parametrize(
    ("size", "decay"), [("tiny", None), ("mini", None), ("small", 0.8), ("base", 0.8), ("large", 0.9)]
)
def test_no_rate_of_a_pipeline_depends_on_its_length_or_size(
    electra: Invoke, tmp_path: Path, size: str, decay: float | None
):
    electra("init-config", tmp_path, "--size", size)
    optimizer = load_config(tmp_path / "pipeline.cfg")["training"]["optimizer"]
    schedule = {"@schedules": "decaying.v1", "base_rate": 0.002, "decay": 0.001, "t": 0}
    assert (optimizer["learn_rate"], optimizer["transformer_rate"]) == (schedule, "auto")
    assert optimizer.get("layer_decay") == decay


def test_a_start_gives_its_shape_and_rates(electra: Invoke, run_dir: Path, tmp_path: Path):
    start = run_dir / "model-last"
    printed = electra("init-config", tmp_path, "--start", start, "--pipeline", "ner")
    assert f"train-tokenizer CORPUS corpus/tokenizer --from {start}" in printed
    config = load_config(tmp_path / "pretrain.cfg")
    shape = {"layers": 2, "width": 16, "feed_forward": 32, "heads": 2}
    assert config["paths"]["init"] == str(start)
    assert config["training"]["eval_frequency"] == 250
    assert config["model"]["detach_output_embeddings"] is True
    assert config["model"]["discriminator"] == shape | {"embedding": 16}
    assert config["model"]["generator"] == {"layers": 1, "width": 8, "feed_forward": 16, "heads": 1}
    assert config["model"]["window"] == 16
    assert config["training"]["optimizer"]["learn_rate"] == pytest.approx(0.128 / 16)
    assert load_config(tmp_path / "pipeline.cfg")["training"]["optimizer"]["layer_decay"] is None


def test_a_run_takes_the_config_of_its_start(
    electra: Invoke, run_dir: Path, store_dir: Path, tokenizer_dir: Path, tmp_path: Path
):
    electra("init-config", tmp_path, "--start", run_dir / "model-last", "--pipeline", "ner")
    paths = ["--paths.train", store_dir, "--paths.tokenizer", tokenizer_dir]
    budget = ["--training.max_steps", 2, "--training.max_minutes", 0, "--training.dev_rows", 4]
    electra("pretrain", tmp_path / "pretrain.cfg", "--output", tmp_path / "run", *paths, *budget)
    assert (tmp_path / "run" / "model-last").is_dir()


@pytest.mark.parametrize(("width", "layers", "rate", "decay"), [(384, 4, 3e-4, None), (768, 12, 2e-4, 0.8)])
def test_rates_follow_width_and_depth(
    electra: Invoke, tmp_path: Path, width: int, layers: int, rate: float, decay: float | None
):
    config = BertConfig(
        vocab_size=8, hidden_size=width, num_hidden_layers=layers, num_attention_heads=12, intermediate_size=8
    )
    BertModel(config, add_pooling_layer=False).save_pretrained(tmp_path / "bert")
    electra("init-config", tmp_path / "configs", "--start", tmp_path / "bert")
    pretrain, pipeline = (load_config(tmp_path / "configs" / name) for name in ("pretrain.cfg", "pipeline.cfg"))
    assert pretrain["training"]["optimizer"]["learn_rate"] == rate
    assert pipeline["training"]["optimizer"]["layer_decay"] == decay
    assert pretrain["model"]["generator"] is None


def test_a_size_beside_a_start_is_refused(complaint: Invoke, run_dir: Path, tmp_path: Path):
    told = complaint("init-config", tmp_path / "c", "--size", "mini", "--start", run_dir / "model-last")
    assert "both say how large the model is: give one of them" in told


def test_labelled_documents_are_mixed_into_the_rows(
    electra: Invoke, run_dir: Path, store_dir: Path, tokenizer_dir: Path, tmp_path: Path
):
    labels = tmp_path / "labels"
    (tmp_path / "labels.jsonl").write_text('{"text": "the cat sat on the mat"}\n' * 9, encoding="utf8")
    electra("tokenize", tmp_path / "labels.jsonl", labels, "--tokenizer", tokenizer_dir)
    electra("init-config", tmp_path / "configs", "--start", run_dir / "model-last", "--labels", labels)
    config = tmp_path / "configs" / "pretrain.cfg"
    assert load_config(config)["corpora"] == {"labels": {"path": str(labels), "weight": 0.25}}
    paths = ["--paths.train", store_dir, "--paths.tokenizer", tokenizer_dir]
    budget = ["--training.max_steps", 2, "--training.max_minutes", 0, "--training.dev_rows", 4]
    printed = electra("pretrain", config, "--output", tmp_path / "run", *paths, *budget)
    assert "train 80.0%, labels 20.0%" in " ".join(printed.split())


def test_every_command_on_the_way_to_a_pipeline_is_told(electra: Invoke, tmp_path: Path):
    _, *commands = electra("init-config", tmp_path, "--labels", "corpus/labels").split("python -m spacy ")
    assert [" ".join(command.split()[:2]) for command in commands] == [
        "electra train-tokenizer",
        "electra tokenize",
        "electra tokenize",
        "electra pretrain",
        f"train {tmp_path / 'pipeline.cfg'}",
    ]
    assert "train.spacy corpus/labels" in commands[2]
