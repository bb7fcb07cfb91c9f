"""A run on disk: exact resuming, what is written when, and exports that Hugging Face loads."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoTokenizer, ElectraForMaskedLM, ElectraForPreTraining

from spacy_electra.data.batches.masking import mask_rows
from spacy_electra.training.checkpoint import read_checkpoint
from spacy_electra.training.context import RunContext
from spacy_electra.training.loop import StepResult, pretrain
from spacy_electra.training.run import (
    Run,
    check_run_folder,
    finish,
    held,
    restore,
    save_model,
    save_state,
    train_on_disk,
)
from spacy_electra.training.state import Diverged, State

MakeContext = Callable[..., RunContext]
MakeRun = Callable[..., Run]
WeightsOf = Callable[[RunContext], dict[str, Tensor]]


def go(run: Run, context: RunContext, state: State | None = None, *, until: int | None = None) -> StepResult:
    """Train, and leave without a further word after step `until`."""
    loop: Iterator[StepResult] = train_on_disk(run, context, state or State())
    for result in loop:
        if result.state.step == until:
            break
    return result


def records(run: Run, name: str = "metrics.jsonl") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run.folder / name).read_text(encoding="utf8").splitlines()]


def optimizer_state(context: RunContext) -> dict[str, Tensor]:
    state: dict[str, Tensor] = context.model.shims[0].steps.adamw_for(context.optimizer).named_state()
    return state


def assert_equal(left: dict[str, Tensor], right: dict[str, Tensor]) -> None:
    assert left.keys() == right.keys()
    for name, tensor in left.items():
        assert torch.equal(tensor, right[name]), name


@pytest.mark.parametrize(
    ("saved_at", "model"),  # amid two evaluations, and right at one
    [(3, {}), (4, {}), (3, {"objective": "mlm"}), (3, {"dropout": 0.1})],
)
def test_a_resumed_run_is_the_undisturbed_one_to_the_last_bit(
    tmp_path: Path,
    make_context: MakeContext,
    make_run: MakeRun,
    weights_of: WeightsOf,
    saved_at: int,
    model: dict[str, Any],
) -> None:
    whole_run, whole = make_run(tmp_path / "whole"), make_context(model=model)
    go(whole_run, whole)

    run, context = make_run(tmp_path / "broken"), make_context(model=model)
    result = go(run, context, until=saved_at)
    save_state(run, context, result.state)
    go(run, context, result.state, until=7)  # what a crash loses: records are written, no checkpoint is
    assert records(run)[-1]["step"] > saved_at

    resumed = make_context(model=model)
    fresh = weights_of(resumed)
    state = restore(resumed, run.folder)
    assert state.step == saved_at
    go(run, resumed, state)

    assert_equal(weights_of(resumed), weights_of(whole))
    assert_equal(optimizer_state(resumed), optimizer_state(whole))
    assert records(run) == records(whole_run)
    assert any(not torch.equal(fresh[name], tensor) for name, tensor in weights_of(whole).items())


def test_a_resumed_model_has_one_word_embedding_that_all_its_parts_read(
    tmp_path: Path, make_context: MakeContext, make_run: MakeRun
) -> None:
    context = make_context()
    go(make_run(tmp_path), context)
    resumed = make_context()
    restore(resumed, tmp_path)
    network, rows = resumed.model.network, resumed.train.batch(0, 2)
    words = network.embeddings.word.weight
    assert torch.equal(words, context.model.network.embeddings.word.weight)
    assert [p is words for p in network.parameters() if p.shape == words.shape] == [True]

    def losses() -> tuple[float, float]:
        masked = mask_rows(rows, resumed.special, rate=0.15, unmasked_fraction=0.15)
        with torch.no_grad():
            output = network(rows, masked, vocab_size=resumed.model.attrs["vocab_size"], samples=masked.original)
        return output.generator.loss.item(), output.discriminator.loss.item()

    before = losses()
    with torch.no_grad():
        words[resumed.special.cls] += torch.randn(words.shape[1], generator=torch.Generator().manual_seed(0))
    assert all(new != old for new, old in zip(losses(), before, strict=True))


def test_a_record_that_a_crash_cut_off_is_dropped(tmp_path: Path, make_context: MakeContext, make_run: MakeRun) -> None:
    run, context = make_run(tmp_path), make_context()
    save_state(run, context, go(run, context, until=4).state)
    with (tmp_path / "metrics.jsonl").open("a", encoding="utf8") as file:
        file.write('{"step": 6, "lo')
    restore(make_context(), tmp_path)
    assert [record["step"] for record in records(run)] == [2, 4]


def test_a_run_that_got_to_no_checkpoint_starts_with_empty_records(
    tmp_path: Path, make_context: MakeContext, make_run: MakeRun
) -> None:
    run = make_run(tmp_path)
    go(run, make_context(), until=4)
    assert records(run)
    assert restore(make_context(), tmp_path).step == 0
    assert records(run) == []


def test_a_run_that_diverges_before_its_first_checkpoint_keeps_its_records(
    tmp_path: Path, make_context: MakeContext, make_run: MakeRun
) -> None:
    run, context = make_run(tmp_path), make_context(on_divergence="rollback", checkpoint_minutes=60.0)
    loop = train_on_disk(run, context, State())
    for result in loop:
        if result.state.step == 4:
            with torch.no_grad():
                context.model.network.embeddings.word.weight.fill_(torch.nan)
            break
    with pytest.raises(Diverged):
        list(loop)
    assert [record["step"] for record in records(run)] == [2, 4]


def test_the_model_of_a_smaller_budget_does_not_stand_for_a_larger_one(
    tmp_path: Path, make_context: MakeContext, make_run: MakeRun, weights_of: WeightsOf
) -> None:
    run = make_run(tmp_path)
    go(run, make_context(max_steps=4))
    longer = make_context(max_steps=8)
    save_state(run, longer, go(run, longer, restore(longer, tmp_path), until=6).state)
    shorter = make_context(max_steps=6)
    finish(run, shorter, restore(shorter, tmp_path))
    words = ElectraForPreTraining.from_pretrained(tmp_path / "model-last" / "discriminator").get_input_embeddings()
    assert torch.equal(words.weight, weights_of(longer)["embeddings.word.weight"][: len(words.weight)])
    assert json.loads((tmp_path / "model-last" / "summary.json").read_text())["step"] == 6


def test_the_same_state_is_written_once(tmp_path: Path, make_context: MakeContext, make_run: MakeRun) -> None:
    run, context = make_run(tmp_path), make_context(checkpoint_minutes=1e-9)
    state = go(run, context, until=4).state
    path = tmp_path / "checkpoints" / "step-00000004" / "state.json"
    before = path.stat().st_ino
    save_state(run, context, state)
    assert path.stat().st_ino == before


def test_a_norm_that_is_not_finite_is_recorded_as_none(
    tmp_path: Path, make_context: MakeContext, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, context = make_run(tmp_path), make_context()
    for result in train_on_disk(run, context, State()):
        if result.state.step == 3:  # the next step's gradients are not finite, its losses are
            context.model.shim.steps.before_step = lambda parameters: parameters[0].grad.fill_(torch.inf)
        if result.state.step == 4:
            break
    assert records(run)[-1]["gradient_norm"] is None
    assert "Infinity" not in (tmp_path / "metrics.jsonl").read_text()


def test_a_checkpoint_of_another_shape_is_refused(tmp_path: Path, make_context: MakeContext, make_run: MakeRun) -> None:
    go(make_run(tmp_path), make_context())
    other = make_context(model={"window": 32})
    with pytest.raises(ValueError, match=r"(?s)belongs to a model of another shape.*embeddings\.position"):
        restore(other, tmp_path)


def test_facts_and_clocks_are_written_at_each_evaluation(
    tmp_path: Path, make_context: MakeContext, make_run: MakeRun
) -> None:
    run, context = make_run(tmp_path), make_context(max_steps=5)
    last = go(run, context)
    assert last.evaluation is not None
    assert [record["step"] for record in records(run)] == [2, 4, 5]
    assert records(run)[-1] == {
        "step": 5,
        "row": 20,
        "epoch": 20 // context.train.rows,
        "learn_rate": last.learn_rate,
        "gradient_norm": last.evaluation.gradient_norm,
        "skipped_steps": 0,
        "losses": last.evaluation.losses,
        "scores": last.evaluation.scores,
    }
    assert [record["step"] for record in records(run, "timings.jsonl")] == [2, 4, 5]
    assert [record["progress"] for record in records(run, "timings.jsonl")] == [0.4, 0.8, 1.0]


def test_checkpoints_come_by_the_clock_and_at_the_end(
    tmp_path: Path, make_context: MakeContext, make_run: MakeRun
) -> None:
    go(make_run(tmp_path / "often"), make_context(checkpoint_minutes=1e-9, keep_checkpoints=3))
    names = sorted(path.name for path in (tmp_path / "often" / "checkpoints").iterdir())
    assert names == ["step-00000006", "step-00000007", "step-00000008"]
    go(make_run(tmp_path / "seldom"), make_context(checkpoint_minutes=60.0))
    assert [path.name for path in (tmp_path / "seldom" / "checkpoints").iterdir()] == ["step-00000008"]


def test_model_best_comes_in_the_last_half_only(tmp_path: Path, make_context: MakeContext, make_run: MakeRun) -> None:
    run, context = make_run(tmp_path), make_context(max_steps=8)
    loop = train_on_disk(run, context, State())
    there = {result.state.step: (tmp_path / "model-best").is_dir() for result in loop}
    assert there == {1: False, 2: False, 3: False, 4: True, 5: True, 6: True, 7: True, 8: True}


def test_model_best_holds_the_weights_of_the_lowest_dev_loss(
    tmp_path: Path, make_context: MakeContext, make_run: MakeRun, weights_of: WeightsOf
) -> None:
    run, context = make_run(tmp_path), make_context(max_steps=8)
    bests: list[dict[str, Tensor]] = []
    for result in train_on_disk(run, context, State()):
        if result.evaluation is not None and result.evaluation.is_best:
            bests.append(weights_of(context))
        if result.state.step == 5:  # from now on the piece that stands first in the vocabulary is all that is guessed
            with torch.no_grad():
                context.model.network.masked_head.bias[0] = 100.0
    (best,) = bests
    words = ElectraForPreTraining.from_pretrained(tmp_path / "model-best" / "discriminator").get_input_embeddings()
    assert torch.equal(words.weight, best["embeddings.word.weight"][: len(words.weight)])
    assert not torch.equal(words.weight, weights_of(context)["embeddings.word.weight"][: len(words.weight)])


@pytest.mark.parametrize("name", ["model-best", "model-last"])
def test_hugging_face_loads_both_halves_without_a_missing_key(
    tmp_path: Path, make_context: MakeContext, make_run: MakeRun, name: str
) -> None:
    go(make_run(tmp_path), make_context())
    for half, kind in (("discriminator", ElectraForPreTraining), ("generator", ElectraForMaskedLM)):
        _, told = kind.from_pretrained(tmp_path / name / half, output_loading_info=True)
        assert told["missing_keys"] == told["unexpected_keys"] == told["mismatched_keys"] == []
        assert AutoTokenizer.from_pretrained(tmp_path / name / half)("w00 w39")["input_ids"] == [2, 5, 44, 3]


def test_the_exported_discriminator_judges_as_the_trained_one(
    tmp_path: Path, make_context: MakeContext, make_run: MakeRun
) -> None:
    context = make_context(learn_rate=0.01)
    go(make_run(tmp_path), context)
    rows = next(rows for first in range(99) if (rows := context.train.batch(first, 1)).segments.max() == 1)
    ids = rows.ids[rows.is_real][None]
    theirs = ElectraForPreTraining.from_pretrained(tmp_path / "model-last" / "discriminator")(ids).logits
    masked = mask_rows(rows, context.special, rate=0.15, unmasked_fraction=0.15)
    ours = context.model.network(rows, masked, vocab_size=45, samples=masked.original).discriminator.logits[
        rows.is_real
    ]
    torch.testing.assert_close(ours, theirs[0], rtol=1e-4, atol=1e-5)


def test_a_masked_language_model_exports_one_half(tmp_path: Path, make_context: MakeContext, make_run: MakeRun) -> None:
    go(make_run(tmp_path, objective="mlm"), make_context(model={"objective": "mlm"}))
    folder = tmp_path / "model-last"
    _, told = ElectraForMaskedLM.from_pretrained(folder / "discriminator", output_loading_info=True)
    assert told["missing_keys"] == told["unexpected_keys"] == []
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "discriminator", "summary.json"]
    assert "Masked language model" in (folder / "README.md").read_text(encoding="utf8")


def test_the_card_tells_recipe_and_scores(tmp_path: Path, make_context: MakeContext, make_run: MakeRun) -> None:
    last = go(make_run(tmp_path), make_context())
    assert last.evaluation is not None
    card = (tmp_path / "model-last" / "README.md").read_text(encoding="utf8")
    assert "spacy-electra 1.2.3" in card
    assert "| steps | 8 |" in card
    assert f"| auc | {last.evaluation.scores['auc']:.4f} |" in card


def test_models_are_written_whole(tmp_path: Path, make_context: MakeContext, make_run: MakeRun) -> None:
    run, context = make_run(tmp_path), make_context()
    go(run, context)
    (tmp_path / ".partial-model-last").mkdir()
    (tmp_path / ".partial-model-last" / "rubbish").write_text("left by a crash", encoding="utf8")
    save_model(run, context, "model-last", State(step=99), {"auc": 0.5})
    names = sorted(path.name for path in (tmp_path / "model-last").iterdir())
    assert names == ["README.md", "discriminator", "generator", "summary.json"]
    assert not list(tmp_path.glob(".partial*"))


def test_a_start_clears_what_killed_processes_left_and_finishes_what_they_had_decided(tmp_path: Path) -> None:
    for name in (".partial-model-best", "checkpoints/.partial-step-00000005", "model-last/.partial-decided"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "rubbish").touch()
    (tmp_path / "model-last" / "summary.json").write_text("old")
    (tmp_path / "model-last" / ".partial-decided" / ".order").write_text('["summary.json"]')
    (tmp_path / "model-last" / ".partial-decided" / "summary.json").write_text("new")
    (tmp_path / "metrics.jsonl.partial").touch()
    with held(tmp_path):
        names = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert names == {".lock", "model-last/summary.json"}
    assert (tmp_path / "model-last" / "summary.json").read_text() == "new"


def test_a_finished_run_gets_the_model_last_that_it_lacks(
    tmp_path: Path, make_context: MakeContext, make_run: MakeRun
) -> None:
    run, context = make_run(tmp_path), make_context()
    last = go(run, context)
    folder = tmp_path / "model-last"
    before = {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    folder.rename(tmp_path / "elsewhere")
    resumed = make_context()
    finish(run, resumed, restore(resumed, tmp_path))
    assert {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    assert last.progress == 1.0


def test_a_diverged_state_is_not_saved(tmp_path: Path, make_context: MakeContext, make_run: MakeRun) -> None:
    context = make_context()
    with torch.no_grad():
        context.model.network.embeddings.word.weight[7] = float("nan")
    with pytest.raises(ValueError, match="diverged: at step 1"):
        save_state(make_run(tmp_path), context, next(pretrain(context, State())).state)
    assert not (tmp_path / "latest").exists()


def test_a_folder_with_a_run_is_refused_unless_it_is_to_be_resumed(
    tmp_path: Path, make_context: MakeContext, make_run: MakeRun
) -> None:
    check_run_folder(tmp_path / "new", resume=False)
    check_run_folder(tmp_path, resume=False)
    check_run_folder(tmp_path, resume=True)
    go(make_run(tmp_path), make_context())
    check_run_folder(tmp_path, resume=True)
    with pytest.raises(ValueError, match=r"holds a run: add --resume"):
        check_run_folder(tmp_path, resume=False)


def test_an_output_that_is_a_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    with pytest.raises(ValueError, match="is a file: give a folder"):
        check_run_folder(path, resume=True)


def poison_while(context: RunContext, *, rate_above: float, after: int) -> None:
    """Put a NaN into the gradients of all steps after the first few whose learning rate is higher."""
    taken = 0

    def before_step(parameters: Any) -> None:
        nonlocal taken
        taken += 1
        if taken > after and float(context.optimizer.learn_rate) > rate_above:
            parameters[0].grad[0] = float("nan")

    context.model.shim.steps.before_step = before_step


DIVERGING = {"max_steps": 12, "warmup": 0.0, "max_skipped_steps": 1, "checkpoint_minutes": 1e-9, "eval_frequency": 2}


def test_a_run_that_diverged_goes_back_and_on_with_half_the_rate(
    tmp_path: Path, make_context: MakeContext, make_run: MakeRun, caplog: pytest.LogCaptureFixture
) -> None:
    context = make_context(**DIVERGING, on_divergence="rollback")
    poison_while(context, rate_above=0.5e-3, after=2)
    *_, last = train_on_disk(make_run(tmp_path), context, State())
    assert last.state.step == 12
    assert last.state.lr_scale == 0.5
    assert "Going back to step 3 with the share 0.5" in caplog.text
    read = read_checkpoint(tmp_path)
    assert read is not None
    assert read.state.lr_scale == 0.5
    steps = [json.loads(line)["step"] for line in (tmp_path / "metrics.jsonl").read_text(encoding="utf8").splitlines()]
    assert steps == [2, 4, 6, 8, 10, 12]


@pytest.mark.parametrize(("when", "rate_above"), [("stop", 0.5e-3), ("rollback", 0.0)])
def test_a_run_that_diverges_ends_where_it_may_not_go_back_or_not_again(
    tmp_path: Path, make_context: MakeContext, make_run: MakeRun, when: str, rate_above: float
) -> None:
    context = make_context(**DIVERGING, on_divergence=when)
    poison_while(context, rate_above=rate_above, after=2)
    with pytest.raises(Diverged, match="steps in a row had gradients that are not finite"):
        list(train_on_disk(make_run(tmp_path), context, State()))
    assert read_checkpoint(tmp_path) is not None
