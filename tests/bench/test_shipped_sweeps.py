"""Every shipped sweep can be planned on any machine, and spans what its file says."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from joulelaw.bench.plan.devices import local_nodes, with_assumed
from joulelaw.bench.plan.making import make_plan
from joulelaw.bench.plan.plan import Plan
from joulelaw.bench.spec.configuration import Configuration
from joulelaw.bench.spec.sweep_file import SHIPPED, load_sweep
from joulelaw.cluster.nodes.inventory import Device, Node
from joulelaw.model.hardware import Catalogue

NAMES = sorted(path.stem for path in SHIPPED.glob("*.yaml"))
A100 = "NVIDIA A100-SXM4-40GB"
BASE, LARGE = (12, 768), (24, 1024)


def gpus(count: int, model: str = A100, gib: float = 39.4) -> Node:
    devices = tuple(Device(f"GPU-{i}", model, i, "cuda", int(gib * 2**30), (), 400.0, "570") for i in range(count))
    return Node("a", "0a", devices, 2**40, 128, "AMD EPYC")


def cores(count: int) -> Node:
    devices = tuple(Device(f"CPU-{i}", "One Core", i, "cpu", 8 * 2**30, (i,), None, "") for i in range(count))
    return Node("a", "0a", devices, 16 * 2**30, count, "One Core")


def plan_of(name: str, *nodes: Node) -> Plan:
    return make_plan(load_sweep(name), nodes, with_assumed(Catalogue.load(), nodes)[0])


def asked(name: str) -> list[Configuration]:
    return [each.configuration for each in load_sweep(name).asked]


def span(rows: list[Configuration], axis: str) -> tuple[int, int]:
    values = [getattr(row, axis) for row in rows]
    return min(values), max(values)


def test_the_shipped_sweeps_are_those_that_the_readme_and_the_help_speak_of() -> None:
    assert NAMES == ["new_hardware", "p1", "p2", "quickstart"]


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_sweep_can_be_planned_here_and_on_every_kind_of_machine(name: str) -> None:
    here = local_nodes(load_sweep(name))
    turing = [[gpus(1, "Tesla T4", 14.6)], [gpus(4, "NVIDIA GeForce RTX 2080 Ti", 10.7)]]
    for nodes in [here, [gpus(8)], [cores(1)], [cores(2)], *turing]:
        plan = plan_of(name, *nodes)
        assert plan.trials
        assert 0 < sum(trial.split == "hold_out" for trial in plan.trials) < len(plan.trials)
        assert all(trial.price.trial_s is not None and math.isfinite(trial.price.trial_s) for trial in plan.trials)


@pytest.mark.parametrize("name", NAMES)
def test_eight_a100_run_all_that_fits_their_memory(name: str) -> None:
    plan = plan_of(name, gpus(8))
    assert all("more memory" in each.kind for each in plan.set_aside)
    assert len(plan.set_aside) <= 0.02 * len(plan.trials)
    assert not any(trial.baseline for trial in plan.trials), "each file asks for its single-device runs itself"
    limits = load_sweep(name).limits
    slowest = max(trial.price.trial_s or math.inf for trial in plan.trials)
    assert slowest < limits.trial_timeout_s / 4


@pytest.mark.parametrize("name", NAMES)
def test_a_window_is_long_enough_for_its_meter(name: str) -> None:
    sweep = load_sweep(name)
    assert sweep.window.warmup_steps >= 2
    assert sweep.window.min_s >= (2 if name == "quickstart" else 12)
    assert sweep.description
    assert sweep.text.startswith("#"), "the file says what it is for"


def test_hundreds_of_trials_are_told_on_a_page() -> None:
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-m", "joulelaw.bench", "plan", "p1"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=300, check=True)
    *page, last = done.stdout.splitlines()
    content = json.loads(last)
    assert len(page) < 60
    assert len(content["trials"]) == content["planned"] > 100, "a program gets them all"
    assert sum(each["configurations"] for each in content["set_aside"]) + content["planned"] >= len(asked("p1"))


def test_p1_spans_the_papers_grid() -> None:
    rows = asked("p1")
    assert {row.model_family for row in rows} == {"bert", "gpt2"}
    assert {row.strategy for row in rows} == {"single", "fsdp", "tp"}
    assert {row.gpu_count for row in rows} == {1, 2, 4, 6}
    assert {row.precision for row in rows} == {"fp16"}
    assert (span(rows, "num_layers"), span(rows, "hidden_size"), span(rows, "sequence_length")) == (
        (2, 24),
        (64, 1024),
        (32, 128),
    )
    for family in ("bert", "gpt2"):
        sizes = {(row.num_layers, row.hidden_size) for row in rows if row.model_family == family}
        assert {BASE, LARGE} <= sizes
    assert {row.gpu_count for row in rows if row.strategy == "fsdp"} == {2, 4, 6}
    assert {row.gpu_count for row in rows if row.strategy == "tp"} == {2, 4, 6}
    assert {row.model_family for row in rows if row.strategy == "tp"} == {"bert"}, "as in the paper"
    assert all(row.hidden_size == 64 * row.num_heads for row in rows)
    assert {row.vocab_size for row in rows} == {30522, 50257}


def test_p2_spans_the_papers_two_grids() -> None:
    rows = asked("p2")
    assert {(row.strategy, row.gpu_count) for row in rows} == {("single", 1)}
    recurrent = [row for row in rows if row.model_family in ("lstm", "gru")]
    assert {(row.num_layers, row.sequence_length) for row in recurrent} == {(1, 4)}
    assert (span(recurrent, "input_size"), span(recurrent, "hidden_size")) == ((64, 640), (64, 6400))
    rows = [row for row in rows if row not in recurrent]
    energy = [row for row in rows if row.num_layers > 1]
    assert {row.num_layers for row in energy} == {4, 6, 12}
    assert {row.num_heads for row in energy} == {2, 4, 8, 12}, "as in the published energies"
    assert (span(energy, "hidden_size"), span(energy, "sequence_length")) == ((128, 1280), (256, 1280))
    assert {row.micro_batch_size * row.grad_accumulation for row in energy} == {160, 256, 320}
    operations = [row for row in rows if row.num_layers == 1]
    assert {row.micro_batch_size for row in operations} == {64}
    # The range of FLOPs of its timings: query, key and value 6 B s d^2, scores 2 B s^2 d.
    qkv = [6 * 64 * row.sequence_length * row.hidden_size**2 for row in operations]
    scores = [2 * 64 * row.sequence_length**2 * row.hidden_size for row in operations]
    assert (min(qkv), max(qkv)) == (805306368, 887850270720)
    assert (min(scores), max(scores)) == (268435456, 281857228800)


def test_new_hardware_is_small_and_sees_each_limit_of_a_device() -> None:
    plan = plan_of("new_hardware", gpus(8))
    rows = [trial.spec.configuration for trial in plan.trials]
    assert 24 <= len(rows) <= 40
    assert {row.precision for row in rows} == {"fp32", "tf32", "fp16", "bf16"}
    assert {row.gpu_count for row in rows} == {1, 2, 4, 8}
    assert {"single", "ddp", "fsdp", "tp", "fsdp_tp"} <= {row.strategy for row in rows}
    assert any(row.strategy.startswith("zero") for row in rows)
    assert {BASE, LARGE} <= {(row.num_layers, row.hidden_size) for row in rows}
    peak = Catalogue.load().get(A100).peak_flop_per_s["fp16"]
    share = [
        trial.price.flop_per_step / trial.price.step_s / peak
        for trial in plan.trials
        if trial.group[1] == 1 and trial.spec.configuration.precision == "fp16" and trial.price.step_s
    ]
    assert max(share) > 0.2, "of the peak: arithmetic takes the time"
    assert min(share) < 0.001, "launches do"
    total_s = sum(trial.price.trial_s or math.inf for trial in plan.trials)
    assert total_s < 15 * 60
