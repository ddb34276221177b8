"""The sweep of the check is sized to each device: enough configurations, that fit, from short steps to long ones."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from joulelaw.bench.gpu_check.sized import sweeps
from joulelaw.bench.installed import DEEPSPEED_STRATEGIES
from joulelaw.bench.plan.making import make_plan
from joulelaw.bench.plan.plan import Plan
from joulelaw.bench.spec.configuration import Configuration
from joulelaw.bench.spec.sweep_file import load_sweep
from joulelaw.cluster.nodes.inventory import Device, Node
from joulelaw.model.hardware import Catalogue
from joulelaw.model.tables import CASE_COLUMNS

CATALOGUE = Catalogue.load()
LARGE = [name for name, spec in CATALOGUE.devices.items() if spec.memory_bytes >= 16e9 and spec.kind == "cuda"]
WITHOUT_DEEPSPEED = dict.fromkeys(DEEPSPEED_STRATEGIES, "DeepSpeed is not installed")


def planned(gpu_model: str, folder: Path, missing: Mapping[str, str]) -> dict[str, Plan]:
    spec = CATALOGUE.get(gpu_model)
    device = Device("GPU-1", gpu_model, 0, "cuda", spec.memory_bytes, (), spec.power_limit_w, "580")
    node = Node("local", "0a", (device,), 2**37, 16, "a processor")
    plans = {}
    for name, text in sweeps(gpu_model, CATALOGUE, dry=False).items():
        (folder / f"{name}.yaml").write_text(text)
        plans[name] = make_plan(load_sweep(folder / f"{name}.yaml"), [node], CATALOGUE, missing=missing)
    return plans


def cases(plan: Plan) -> set[tuple[Any, ...]]:
    return {tuple(getattr(each.spec.configuration, name) for name in CASE_COLUMNS) for each in plan.trials}


@pytest.mark.parametrize("gpu_model", LARGE)
def test_every_card_gets_its_forty_and_what_the_plan_is_asked_fits(gpu_model: str, tmp_path: Path) -> None:
    plans = planned(gpu_model, tmp_path, WITHOUT_DEEPSPEED)
    configurations: set[Configuration] = {each.spec.configuration for plan in plans.values() for each in plan.trials}
    assert len(configurations) >= 40
    assert {each.model_family for each in configurations} == {"bert", "gpt2"}
    assert {each.strategy for each in configurations} == {"single", "ddp", "fsdp"}
    aside = {each.configuration.strategy for plan in plans.values() for each in plan.set_aside}
    assert aside <= {"zero2"}, "what does not fit was not asked for"
    seconds = [each.price.step_s or 0.0 for each in plans["sweep"].trials]
    assert max(seconds) > 20 * min(seconds) > 0
    assert not any(each.baseline for each in plans["sweep"].trials), "each case has its own single-device trial"


def test_repeats_are_three_of_six_cases_of_their_own_with_long_windows(tmp_path: Path) -> None:
    plans = planned("NVIDIA H200", tmp_path, WITHOUT_DEEPSPEED)
    assert len(plans["repeats"].trials) == 18
    assert len(cases(plans["repeats"])) == 6
    assert not cases(plans["repeats"]) & cases(plans["sweep"]), "none is held out in the one and fitted in the other"
    assert {each.spec.window.min_s for each in plans["repeats"].trials} == {30.0}
    assert {each.spec.window.min_s for each in plans["sweep"].trials} == {12.0}
    assert 0 < sum(each.split == "hold_out" for each in plans["sweep"].trials) < len(plans["sweep"].trials) / 2
    assert all(each.spec.window.tolerance is None for plan in plans.values() for each in plan.trials), "and no longer"
    assert plans["sweep"].metering["meter"] == "nvml", "a figure of a GPU is never an estimate"


def test_with_deepspeed_its_strategy_comes_along(tmp_path: Path) -> None:
    trials = planned("NVIDIA H200", tmp_path, {})["sweep"].trials
    assert sum(each.spec.configuration.strategy == "zero2" for each in trials) == 3


def test_a_larger_card_gets_larger_batches() -> None:
    small, large = (
        sum(grid["micro_batch_size"] for grid in yaml.safe_load(sweeps(name, CATALOGUE, dry=False)["sweep"])["grids"])
        for name in ("Tesla T4", "NVIDIA H200")
    )
    assert large > 4 * small
