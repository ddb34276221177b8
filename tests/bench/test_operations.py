"""Operations are timed alone, their FLOPs are torch's, and their sum is shown beside a whole micro-step."""

import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from joulelaw import InputError
from joulelaw.bench.data.source import make_source
from joulelaw.bench.dataset.operation_timings import read_operations
from joulelaw.bench.operations import operations
from joulelaw.bench.operations import rank as operations_rank
from joulelaw.bench.operations.shapes import distinct_shapes
from joulelaw.bench.operations.table import compared, write_parts
from joulelaw.bench.operations.timing import FEWEST, MIN_S, WHOLE, Operation, time_operation, timed
from joulelaw.bench.spec.configuration import Configuration
from joulelaw.bench.workloads import load_workload
from joulelaw.model.hardware import Catalogue
from joulelaw.model.operations import FLOP, forward_calls
from joulelaw.model.parallelism import counts
from joulelaw.model.recurrent import FAMILIES
from tests.bench.trial_ranks import TINY
from tests.model.rows import CPU

pytestmark = pytest.mark.xdist_group("ranks")
DEVICE = torch.device("cpu")
FAMILY_NAMES = ["bert", "gpt2", "lstm", "gru"]


def configured(family: str, **changes: Any) -> Configuration:
    if family not in FAMILIES:
        return replace(TINY, **{"model_family": family, "intermediate_size": 80, "attention": "eager"} | changes)
    shape = replace(TINY, **{"model_family": family, "num_heads": 1, "input_size": 24} | changes)
    return replace(shape, intermediate_size=FAMILIES[family].gates * shape.hidden_size)


def operations_of(configuration: Configuration) -> Iterator[Operation]:
    torch.manual_seed(0)
    training = load_workload(configuration.model_family).build(configuration, DEVICE, Path())
    batch = make_source(configuration, 0, DEVICE, Path()).global_batch(0, 0)
    return operations_rank.operations(training, configuration, batch, DEVICE)


def by_name(configuration: Configuration) -> dict[str, list[Operation]]:
    found = defaultdict(list)
    for operation in operations_of(configuration):
        found[operation.name].append(operation)
    return found


@pytest.mark.parametrize("head", ["classification", "language_model"])
@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_flops_of_each_product_are_torchs_and_add_up_to_the_models(family: str, head: Any) -> None:
    configuration = configured(family, head=head)
    total = 0.0
    for operation in operations_of(configuration):
        with FlopCounterMode(display=False) as counter:
            operation.run(*operation.inputs)
        if counted := counter.get_total_flops():
            assert counted == operation.flop, operation.name
            total += operation.calls * counted
    device = replace(CPU, name=TINY.gpu_model)
    row = counts(pd.DataFrame([configuration.to_dict()]), Catalogue({device.name: device})).iloc[0]
    assert 3 * total == row["flop_per_micro_step"]


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_p2s_operations_are_those_of_the_law_with_its_flops_and_calls(family: str) -> None:
    configuration = configured(family, num_layers=3)
    network = family if family in FAMILIES else "transformer"
    ours = by_name(configuration)
    table = pd.DataFrame([configuration.to_dict()])
    for name in FLOP[network]:
        laws = [(float(c.flop[0]), float(c.number[0])) for c in forward_calls(network, table) if c.operation == name]
        assert sum(flop * calls for flop, calls in laws) == sum(each.flop * each.calls for each in ours[name])
        assert {flop for flop, _ in laws} == {each.flop for each in ours[name]}


def test_fused_attention_takes_the_place_of_its_parts_in_the_sum() -> None:
    fused, eager = (by_name(configured("bert", attention=attention)) for attention in ("sdpa", "eager"))
    for name in ("attention_scores", "attention_softmax", "attention_output"):
        assert (fused[name][0].calls, eager[name][0].calls) == (0, 2)
    assert (fused["fused_attention"][0].calls, eager["fused_attention"][0].calls) == (2, 0)


@pytest.mark.parametrize("family", FAMILY_NAMES)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_operations_take_tensors_of_the_models_own_types(family: str, precision: Any) -> None:
    """Forward and backward run in each precision, and give finite values; times are of calls that took some."""
    for operation in operations_of(configured(family, precision=precision, num_layers=1, dropout=0.1)):
        forward, backward = time_operation(operation, precision, DEVICE)
        assert (forward.phase, backward.phase) == ("forward", "backward")
        assert backward.flop == 2 * forward.flop > 0
        assert min(forward.duration_s, backward.duration_s) > 0
        found = operation.run(*operation.inputs) if precision == "fp32" else torch.zeros(())
        assert all(each.isfinite().all() for each in (found if isinstance(found, tuple) else (found,)))


def test_a_timing_is_the_median_of_repeats_and_what_follows_a_call_is_not_timed() -> None:
    calls = []

    def work() -> None:
        calls.append(time.perf_counter())
        time.sleep(0.05 if len(calls) == 3 else 0.005)

    duration_s, count = timed(work, DEVICE, after=lambda: time.sleep(0.002))
    assert 0.005 <= duration_s < 0.006, "one slow call does not move it, and what follows is not in it"
    assert count >= FEWEST
    assert len(calls) == count + 1, "one call is for warming up"
    assert count * duration_s > 0.5 * MIN_S


def part(operation: str, phase: str, calls: int, duration_s: float, flop: float = 8.0) -> dict[str, Any]:
    return {
        "operation": operation,
        "phase": phase,
        "flop": flop,
        "calls": calls,
        "duration_s": duration_s,
        "timed_calls": 5,
    }


def test_the_sum_counts_each_operation_as_often_as_it_is_called() -> None:
    parts = [
        part("feed_forward", "forward", 4, 1.0),
        part("feed_forward", "backward", 4, 2.0),
        part("attention_scores", "forward", 0, 100.0),
        part("final_projection", "forward", 4, 0.01),
        part("head", "forward", 1, 0.46),
        part("optimizer", "step", 1, 3.0),
        part(WHOLE, "forward", 1, 5.0),
        part(WHOLE, "both", 1, 15.0),
    ]
    found = compared(parts)
    assert (found.forward_sum_s, found.forward_s, found.forward_unexplained) == (4.5, 5.0, pytest.approx(0.1))
    assert (found.micro_step_sum_s, found.optimizer_s) == (12.5, 3.0)
    assert found.p2_forward_s == 4 * (100.0 + 0.01), "scores as if they were not fused"
    assert found.unexplained == pytest.approx(1 - 12.5 / 15)


def test_the_law_reads_forward_calls_only(tmp_path: Path) -> None:
    configuration = configured("lstm")
    wide, narrow = 2 * 4 * 4 * 32 * 32, 2 * 4 * 4 * 32 * 24
    parts = [part("input_gating", "forward", 16, 1.0, narrow), part("input_gating", "forward", 16, 1.5, wide)]
    parts += [part("activations", "forward", 32, 0.5), part("activations", "backward", 32, 0.9)]
    write_parts(tmp_path, configuration, [*parts, part(WHOLE, "forward", 1, 5.0), part(WHOLE, "both", 1, 15.0)])
    table = read_operations([tmp_path])
    assert table is not None
    assert table["operation"].tolist() == ["input_gating", "input_gating", "activations"]
    assert table["duration_s"].tolist() == [1.0, 1.5, 0.5]
    assert table["input_size"].tolist() == [24, 32, 24]
    assert set(table["model_family"]) == {"lstm"}


SWEEP = """\
schema: 1
name: tiny
defaults: {num_layers: [1, 2], hidden_size: 256, vocab_size: 500, sequence_length: 128, micro_batch_size: 4}
grids:
  - {model_family: bert, grad_accumulation: [1, 2]}
  - {model_family: lstm, sequence_length: 8, hidden_size: 64}
  - {strategy: fsdp, gpu_count: 2, num_layers: 1}
devices: {misfits: set_aside}
metering: {meter: estimate, cpu_w_per_core: 5.0}
"""


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(SWEEP)
    return path


def test_each_distinct_shape_of_a_sweep_is_timed_once(tiny: Path, tmp_path: Path) -> None:
    """Of two depths and two accumulations; two devices are not one. The same command does nothing twice."""
    folder, said = tmp_path / "out", list[str]()
    first = operations.time_operations(tiny, None, folder, said.append)
    assert [each.configuration.model_family for each in first.shapes] == ["lstm", "bert"]
    assert {each.configuration.num_layers for each in first.shapes} == {1}
    assert (len(said), first.already_timed) == (2, 0)
    for each in first.shapes:
        names = {(p["operation"], p["phase"]) for p in each.parts}
        assert {(WHOLE, "forward"), (WHOLE, "both"), ("optimizer", "step")} <= names
        assert 0 < each.comparison.forward_s < each.comparison.micro_step_s
    bert = first.shapes[1].comparison
    assert abs(bert.unexplained) < 0.6, "the sum is of the order of the whole"
    table = read_operations([folder])
    assert table is not None
    assert set(table["model_family"]) == {"transformer", "lstm"}
    assert set(FLOP["transformer"]) | set(FLOP["lstm"]) <= set(table["operation"])
    again = operations.time_operations(tiny, None, folder, said.append)
    assert (len(said), again.already_timed) == (2, 2)
    assert again.shapes == first.shapes
    units = pd.read_parquet(next((folder / "micro_steps").glob("*.parquet")))
    assert {"phase", "calls", "duration_s"} <= set(units.columns)


def test_a_trial_on_several_devices_has_no_operations_of_its_own(tiny: Path) -> None:
    from joulelaw.bench.plan.devices import local_nodes, with_assumed
    from joulelaw.bench.plan.making import make_plan
    from joulelaw.bench.spec.sweep_file import load_sweep

    sweep = load_sweep(tiny)
    nodes = local_nodes(sweep)
    plan = make_plan(sweep, nodes, with_assumed(Catalogue.load(), nodes)[0])
    spread = next((each for each in plan.trials if each.spec.configuration.strategy == "fsdp"), None)
    if spread is None:
        pytest.skip("one core")
    with pytest.raises(InputError, match="name a trial with strategy single"):
        distinct_shapes(plan, spread.trial_id)
    single = next(each for each in plan.trials if each.spec.configuration.strategy == "single")
    assert len(distinct_shapes(plan, single.trial_id)) == 1
