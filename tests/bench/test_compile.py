"""Compiled blocks train what eager ones train, in every strategy that can have them, and never in the window."""

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from joulelaw import InputError
from joulelaw.bench.spec.configuration import Configuration, TrialSpec, Window
from joulelaw.bench.strategies import STRATEGIES
from joulelaw.bench.training.compilation import check_compiled, nothing_compiles
from tests.bench.texts import DATA, study_folder, text_configuration
from tests.bench.trial_ranks import TINY, Outcome, run_ranks, run_trial

pytestmark = pytest.mark.xdist_group("ranks")

# Half a minute of g++ the first time; fsdp finds single's kernels in inductor's cache.
COMPILED = [
    ("bert", "single", "inductor"),
    ("bert", "fsdp", "inductor"),
    ("bert", "ddp", "aot_eager"),
    ("bert", "tp", "aot_eager"),
    ("bert", "fsdp_tp", "aot_eager"),
    ("bert", "zero2", "aot_eager"),
    ("gpt2", "single", "aot_eager"),
    ("gpt2", "tp", "aot_eager"),
]
WINDOW = Window(warmup_steps=3, min_steps=3)


def on_ranks(strategy: str, **changes: Any) -> Configuration:
    ranks = 1 if strategy == "single" else 2
    shared = 2 if strategy in ("tp", "fsdp_tp") else 1
    return replace(TINY, strategy=strategy, gpu_count=ranks, tensor_parallel=shared, **changes)


def ran(folder: Path, configuration: Configuration, backend: str, root: Path = Path()) -> list[Outcome]:
    folder.mkdir()
    trial = TrialSpec(configuration, seed=7, window=WINDOW).to_dict()
    payload = {"trial": trial, "root": str(root), "backend": backend}
    outcomes = run_ranks(folder, "tests.bench.compile_ranks:run_and_tell", payload, configuration.gpu_count)
    errors = [event["traceback"] for outcome in outcomes for event in outcome.events if event["kind"] == "error"]
    assert not errors, "\n".join(errors)
    assert [outcome.exit_status for outcome in outcomes] == [0] * len(outcomes), outcomes
    return outcomes


@pytest.mark.parametrize(("family", "strategy", "backend"), COMPILED)
def test_compiled_blocks_train_what_eager_ones_train(family: str, strategy: str, backend: str, tmp_path: Path) -> None:
    configuration = on_ranks(strategy, model_family=family)
    eager = ran(tmp_path / "eager", configuration, backend)
    compiled = ran(tmp_path / "compiled", replace(configuration, torch_compile=True), backend)
    for one, other in zip(compiled, eager, strict=True):
        assert other.one("compiled")["graphs"] == 0
        told = one.one("compiled")
        assert (told["graphs"], told["breaks"]) == (1, {}), "both layers share one whole graph"
        assert told["children"] == [], "a compiler's process would outlive the rank"
        assert one.losses() == pytest.approx(other.losses(), rel=1e-5)
        assert len(one.losses()) == 6


def test_what_torch_cannot_compile_is_refused_and_nothing_else() -> None:
    refused = set()
    for strategy, checkpointing, data in itertools.product(STRATEGIES, (False, True), (None, DATA)):
        asked = on_ranks(strategy, activation_checkpointing=checkpointing, data=data)
        check_compiled(asked)
        try:
            check_compiled(replace(asked, torch_compile=True))
        except InputError:
            refused.add((strategy, checkpointing, data is not None))
    split = {
        (strategy, *rest) for strategy in ("tp", "fsdp_tp") for rest in ((True, False), (False, True), (True, True))
    }
    assert refused == split | {("zero3", *rest) for rest in itertools.product((False, True), repeat=2)}


def test_blocks_compiled_for_texts_take_any_length(tmp_path: Path) -> None:
    """And batches with padding or without: two graphs, none of them compiled in the window."""
    study_folder(tmp_path)
    configuration = text_configuration(grad_accumulation=2)
    eager = ran(tmp_path / "eager", configuration, "aot_eager", tmp_path)
    compiled = ran(tmp_path / "compiled", replace(configuration, torch_compile=True), "aot_eager", tmp_path)
    assert compiled[0].one("compiled")["graphs"] <= 2
    assert compiled[0].losses() == pytest.approx(eager[0].losses(), rel=1e-5)


def test_a_rank_tells_what_torch_cannot_compile(tmp_path: Path) -> None:
    outcomes = run_trial(tmp_path, TrialSpec(on_ranks("zero3", torch_compile=True)))
    errors = [event for outcome in outcomes for event in outcome.events if event["kind"] == "error"]
    assert errors[0]["type"] == "InputError"
    assert errors[0]["message"].startswith("torch_compile: DeepSpeed gathers parameters inside each layer")


def test_a_step_of_a_new_kind_is_refused_in_the_window_only() -> None:
    doubled = torch.compile(lambda numbers: 2 * numbers, backend="eager", dynamic=False)
    doubled(torch.ones(2))
    with nothing_compiles():
        assert doubled(torch.ones(2)).tolist() == [2, 2]
    with pytest.raises(InputError, match="warmup_steps: a measured step was the first of its kind"), nothing_compiles():
        doubled(torch.ones(3))
    assert doubled(torch.ones(3)).tolist() == [2, 2, 2]


def test_other_errors_of_a_window_stay_as_they_are() -> None:
    with pytest.raises(RuntimeError, match="out of memory"), nothing_compiles():
        raise RuntimeError("out of memory")
