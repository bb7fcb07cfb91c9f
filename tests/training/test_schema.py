"""Misspelt, missing and wrong settings, each refused by its name."""

from typing import Any

import pytest

from spacy_electra.training.schema import Paths, System, Training, check_sections, read_section


def config() -> dict[str, Any]:
    return {
        "paths": {"train": "store", "dev": None, "tokenizer": "tokenizer", "init": None},
        "system": {"gpu_allocator": None, "gpu_memory_fraction": 1.0, "seed": 0, "compile": "auto"},
        "model": {"@architectures": "spacy-electra.Electra.v1"},
        "training": {
            "max_steps": 10,
            "max_epochs": 0,
            "max_minutes": 0,
            "batch_rows": 4,
            "micro_batch_size": 0,
            "mask_rate": 0.15,
            "unmasked_fraction": 0.15,
            "discriminator_weight": 50.0,
            "warmup": 0.06,
            "eval_frequency": 5,
            "dev_rows": 8,
            "checkpoint_minutes": 5,
            "keep_checkpoints": 2,
            "max_skipped_steps": 3,
            "max_unknown": 1.0,
            "on_divergence": "stop",
            "score_weights": {"auc": 1.0, "f1": None},
            "optimizer": {},
            "logger": {},
        },
    }


def test_a_complete_config_is_accepted() -> None:
    check_sections(config())
    assert read_section(Training, config()["training"]).score_weights == {"auc": 1.0, "f1": None}
    assert read_section(System, config()["system"]).seed == 0
    assert read_section(Paths, config()["paths"]).train == "store"


@pytest.mark.parametrize(
    ("section", "key", "nearest"),
    [("training", "max_stepz", "max_steps"), ("training", "mask_prob", "mask_rate"), ("system", "seeds", "seed")],
)
def test_a_misspelt_key_is_refused_with_the_nearest_valid_one(section: str, key: str, nearest: str) -> None:
    wrong = config()
    wrong[section][key] = 1
    with pytest.raises(ValueError, match=rf"\[{section}\] has an unknown key '{key}': did you mean '{nearest}'\?"):
        check_sections(wrong)


def test_a_misspelt_section_is_refused_with_the_nearest_valid_one() -> None:
    wrong = config()
    wrong["trainig"] = wrong.pop("training")
    with pytest.raises(ValueError, match=r"unknown section 'trainig': did you mean 'training'\?"):
        check_sections(wrong)


@pytest.mark.parametrize(("section", "key"), [("training", "warmup"), ("system", "gpu_allocator"), ("paths", "train")])
def test_a_missing_key_is_named(section: str, key: str) -> None:
    wrong = config()
    del wrong[section][key]
    with pytest.raises(ValueError, match=rf"\[{section}\] lacks the key '{key}'"):
        check_sections(wrong)


def test_further_paths_are_welcome_but_a_misspelt_one_is_recognised() -> None:
    given = config()
    given["paths"]["raw_text"] = "corpus.jsonl"
    check_sections(given)
    given["paths"]["tokeniser"] = given["paths"].pop("tokenizer")
    with pytest.raises(ValueError, match=r"\[paths\] lacks the key 'tokenizer': is it what 'tokeniser' was meant"):
        check_sections(given)


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("max_steps", -1, r"training\.max_steps: .*greater than or equal to 0, but got -1"),
        ("max_steps", 2.5, r"training\.max_steps: .*, but got 2\.5"),
        ("max_minutes", float("nan"), r"training\.max_minutes: .*finite.*, but got nan"),
        (
            "micro_batch_size",
            "many",
            r"^training\.micro_batch_size: input should be a valid integer.*, or 'auto', but got 'many'",
        ),
        ("batch_rows", 0, r"training\.batch_rows: .*, but got 0"),
        ("mask_rate", 1.0, r"training\.mask_rate: .*less than 1, but got 1\.0"),
        ("warmup", "six percent", r"training\.warmup: .*valid number.*, but got 'six percent'"),
        ("score_weights", {"auc": "high"}, r"training\.score_weights\.auc: .*, but got 'high'"),
    ],
)
def test_a_wrong_value_is_refused_by_key_and_value(key: str, value: Any, expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        read_section(Training, {**config()["training"], key: value})


def test_a_run_without_a_budget_is_refused() -> None:
    with pytest.raises(ValueError, match=r"max_steps, max_epochs and max_minutes are all 0.*--training\.max_minutes"):
        read_section(Training, {**config()["training"], "max_steps": 0})


@pytest.mark.parametrize("value", ["on", 1, None])
def test_compile_is_true_false_or_auto(value: Any) -> None:
    for allowed in (True, False, "auto"):
        assert read_section(System, config()["system"] | {"compile": allowed}).compile == allowed
    with pytest.raises(ValueError, match=r"^system\.compile: input should be a valid boolean, or 'auto', but got"):
        read_section(System, config()["system"] | {"compile": value})
