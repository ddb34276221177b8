"""A plan is a pure function of sweep and inventory: baselines added, misfits set aside, the hold-out drawn by rule."""

import itertools
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from joulelaw import InputError
from joulelaw.bench.plan.devices import local_nodes, with_assumed
from joulelaw.bench.plan.display import show_plan
from joulelaw.bench.plan.making import make_plan
from joulelaw.bench.plan.plan import Plan
from joulelaw.bench.plan.price import measured_steps
from joulelaw.bench.plan.wall import expected_wall_s
from joulelaw.bench.spec.configuration import Window
from joulelaw.bench.spec.sweep_file import load_sweep
from joulelaw.cluster.nodes.inventory import Device, Node
from joulelaw.cluster.streams.metering import MeterInfo
from joulelaw.model.architecture import Shape, parameters
from joulelaw.model.hardware import Catalogue
from tests.bench.texts import study_folder

GIB = 2**30
V100, T4 = "Tesla V100-SXM2-16GB", "Tesla T4"


def gpus(model: str, count: int, gib: float, node_id: str = "a") -> Node:
    devices = tuple(
        Device(f"GPU-{node_id}-{i}", model, i, "cuda", int(gib * GIB), (), 300.0, "570") for i in range(count)
    )
    return Node(node_id, "0a", devices, 2**38, 64, "AMD EPYC")


def cores(count: int) -> Node:
    devices = tuple(Device(f"CPU-0a-{i}", "AMD EPYC (1 core)", i, "cpu", 8 * GIB, (i,), None, "") for i in range(count))
    return Node("a", "0a", devices, 16 * GIB, count, "AMD EPYC")


def plan_of(tmp_path: Path, grids: str, *nodes: Node, rest: str = "") -> Plan:
    path = tmp_path / "sweep.yaml"
    path.write_text(f"schema: 1\nname: small\nseed: 5\ngrids:\n{grids}\n{rest}\n")
    catalogue, _ = with_assumed(Catalogue.load(), nodes)
    return make_plan(load_sweep(path), nodes, catalogue)


def refused(tmp_path: Path, grids: str, *nodes: Node, rest: str = "") -> str:
    with pytest.raises(InputError) as caught:
        plan_of(tmp_path, grids, *nodes, rest=rest)
    return str(caught.value).replace(f"{tmp_path}/", "")


SMALL = "hidden_size: 128, sequence_length: 64, micro_batch_size: 2, vocab_size: 1000"


def test_the_single_device_baseline_of_every_case_is_added_where_it_is_missing(tmp_path: Path) -> None:
    grids = (
        f"  - {{strategy: [fsdp, zero2], gpu_count: 2, num_layers: [2, 3], {SMALL}}}\n"
        f"  - {{strategy: single, num_layers: 2, {SMALL}}}"
    )
    plan = plan_of(tmp_path, grids, cores(2))
    added = [trial for trial in plan.trials if trial.baseline]
    assert len(plan.trials) == 6
    assert [trial.spec.configuration.num_layers for trial in added] == [3]
    assert added[0].spec.configuration.strategy == "single"
    cases = {trial.spec.configuration.case_id for trial in plan.trials}
    singles = {t.spec.configuration.case_id for t in plan.trials if t.spec.configuration.strategy == "single"}
    assert cases == singles


def test_a_baseline_is_the_same_work_whatever_its_variant(tmp_path: Path) -> None:
    variants = f"dropout: [0, 0.1], activation_checkpointing: [false, true], num_layers: 2, {SMALL}"
    grids = f"  - {{strategy: ddp, gpu_count: 2, {variants}}}\n  - {{num_layers: 2, {SMALL}}}"
    plan = plan_of(tmp_path, grids, cores(2))
    parallel = {t.spec.configuration for t in plan.trials if t.spec.configuration.strategy == "ddp"}
    singles = {t.spec.configuration for t in plan.trials if t.spec.configuration.strategy == "single"}
    assert len(plan.trials) == 8
    assert {each.single_device() for each in parallel} == singles
    assert sum(trial.baseline for trial in plan.trials) == 3, "the plain one was asked for"
    assert len({each.case_id for each in singles}) == 1, "all are of one case"


def test_one_rank_of_a_strategy_is_a_trial_of_its_own_with_a_baseline(tmp_path: Path) -> None:
    plan = plan_of(
        tmp_path, f"  - {{strategy: [ddp, fsdp, zero1, tp], gpu_count: 1, num_layers: 2, {SMALL}}}", cores(1)
    )
    counts = Counter((trial.spec.configuration.strategy, trial.baseline) for trial in plan.trials)
    assert counts == {("ddp", False): 1, ("fsdp", False): 1, ("zero1", False): 1, ("tp", False): 1, ("single", True): 1}


def test_each_device_model_of_the_inventory_gets_its_own_configurations(tmp_path: Path) -> None:
    nodes = [gpus(V100, 4, 16), gpus(T4, 1, 15, "b")]
    plan = plan_of(tmp_path, f"  - {{strategy: fsdp, gpu_count: [1, 4], num_layers: 2, {SMALL}}}", *nodes)
    groups = Counter(trial.group for trial in plan.trials if not trial.baseline)
    assert groups == {(V100, 4): 1, (V100, 1): 1, (T4, 1): 1}, "no T4 node has four"


def test_repeats_are_trials_of_their_own_with_their_own_data(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, f"  - {{num_layers: [2, 3], {SMALL}}}", cores(2), rest="repeats: 3")
    assert len({trial.trial_id for trial in plan.trials}) == len(plan.trials) == 6
    assert {trial.spec.seed for trial in plan.trials} == {5, 6, 7}
    for repeats in itertools.groupby(sorted(plan.trials, key=lambda t: t.trial_id), key=lambda t: t.spec.configuration):
        assert len({trial.split for trial in repeats[1]}) == 1, "repeats stay together"


def test_more_ranks_than_devices_are_refused_with_line_and_remedy(tmp_path: Path) -> None:
    grids = f"  - {{strategy: fsdp,\n     gpu_count: [2, 8], num_layers: 2, {SMALL}}}"
    message = refused(tmp_path, grids, cores(2), gpus(T4, 4, 15, "b"))
    assert message == (
        "sweep.yaml:6 grids[0].gpu_count: 8 ranks need 8 devices on one node; the most that one has: "
        "2 x AMD EPYC (1 core), 4 x Tesla T4; ask for at most 4"
    )


def test_devices_of_two_nodes_do_not_make_one_group(tmp_path: Path) -> None:
    grids = f"  - {{strategy: fsdp, gpu_count: 8, num_layers: 2, {SMALL}}}"
    message = refused(tmp_path, grids, gpus(V100, 4, 16, "a"), gpus(V100, 4, 16, "b"))
    assert "the most that one has: 4 x Tesla V100" in message


def test_groups_over_several_nodes_are_planned_where_the_sweep_says_so(tmp_path: Path) -> None:
    nodes = [gpus(V100, 4, 16, "a"), gpus(V100, 4, 16, "b"), gpus(T4, 8, 15, "c")]
    grids = f"  - {{strategy: fsdp, gpu_count: 8, node_count: [1, 2], num_layers: 2, {SMALL}}}"
    plan = plan_of(tmp_path, grids, *nodes)
    asked = [trial.spec.configuration for trial in plan.trials if not trial.baseline]
    groups = {(each.gpu_model, each.node_count) for each in asked}
    assert groups == {(V100, 2), (T4, 1)}, "each model, where it has so many on so many nodes"
    assert all(trial.spec.configuration.node_count == 1 for trial in plan.trials if trial.baseline)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (
            "gpu_count: 12, node_count: 2",
            "node_count: 12 ranks need 6 on each: 12 devices on 2 nodes; the most that so many have: "
            "8 x Tesla V100-SXM2-16GB; ask for at most 8 on 2 nodes, or for node_count: 3",
        ),
        (
            "gpu_count: 8",
            "gpu_count: 8 ranks need 8 devices on one node; the most that one has: 4 x Tesla V100-SXM2-16GB; "
            "ask for at most 4, or for node_count: 2",
        ),
        (
            "gpu_count: 8, node_count: 4",
            "node_count: 8 ranks need 2 on each: 8 devices on 4 nodes; the most that so many have: "
            "12 x Tesla V100-SXM2-16GB on 3 nodes; ask for at most 12 on 3 nodes",
        ),
    ],
)
def test_a_group_that_no_nodes_form_is_refused_with_the_nearest_that_they_do(
    asked: str, message: str, tmp_path: Path
) -> None:
    nodes = [gpus(V100, 4, 16, node) for node in "abc"]
    grids = f"  - {{strategy: fsdp, {asked}, num_layers: 2, {SMALL}}}"
    assert refused(tmp_path, grids, *nodes) == f"sweep.yaml:5 grids[0].{message}"


def test_all_that_can_never_be_placed_is_told_at_once(tmp_path: Path) -> None:
    grids = (
        f"  - {{gpu_model: Tesla V100, num_layers: 2, {SMALL}}}\n"
        f"  - {{strategy: fsdp, gpu_count: 8, num_layers: 2, {SMALL}}}\n"
        f"  - {{num_layers: 200, hidden_size: 8192, sequence_length: 64, micro_batch_size: 2}}"
    )
    told = refused(tmp_path, grids, gpus(V100, 4, 16)).splitlines()
    lines = [line.split(" ")[-1] for line in (each.split(": ")[0] for each in told)]
    assert [line for line in lines if line.startswith("grids")] == [
        "grids[0].gpu_model",
        "grids[1].gpu_count",
        "grids[2].hidden_size",
    ]


def test_a_device_model_that_no_node_has_is_refused_with_a_close_match(tmp_path: Path) -> None:
    message = refused(tmp_path, f"  - {{gpu_model: Tesla V100, num_layers: 2, {SMALL}}}", gpus(V100, 1, 16))
    assert message == f"sweep.yaml:5 grids[0].gpu_model: no node has a 'Tesla V100'; did you mean '{V100}'?"


LARGE = "num_layers: 24, hidden_size: 1024, sequence_length: 512, micro_batch_size: 1"


def test_what_does_not_fit_one_device_is_set_aside_where_it_fits_sharded(tmp_path: Path) -> None:
    # 335 M parameters at 16 bytes are 5 GiB before any activation: too much for one device of 5 GiB.
    grids = f"  - {{strategy: fsdp, gpu_count: 8, {LARGE}}}\n  - {{num_layers: 2, {SMALL}}}"
    plan = plan_of(tmp_path, grids, gpus(V100, 8, 5))
    assert [
        trial.spec.configuration.gpu_count for trial in plan.trials if trial.spec.configuration.num_layers == 24
    ] == [8]
    assert [each.baseline for each in plan.set_aside] == [True]
    assert "on one device need 5.0 GiB a device, Tesla V100-SXM2-16GB has 4.6 GiB" in plan.set_aside[0].reason


def test_a_cpu_needs_room_for_the_holes_in_its_heap_too(tmp_path: Path) -> None:
    assert plan_of(tmp_path, f"  - {{{LARGE}}}", gpus(V100, 1, 8)).trials, "5 GiB fit 8"
    message = refused(tmp_path, f"  - {{{LARGE}}}", cores(1))
    assert "need 10.0 GiB a device with the holes in its heap, AMD EPYC (1 core) has 7.4 GiB" in message


def test_a_shape_that_fits_in_no_way_asked_for_is_refused_even_beside_others(tmp_path: Path) -> None:
    huge = "num_layers: 96, hidden_size: 12288, sequence_length: 512, micro_batch_size: 1"
    grids = f"  - {{num_layers: 2, {SMALL}}}\n  - {{strategy: fsdp, gpu_count: 2, {huge}}}"
    message = refused(tmp_path, grids, cores(2))
    assert message.startswith("sweep.yaml:6 grids[1].hidden_size: 96 layers of width 12288")
    assert "make the model or the micro-batch smaller" in message
    assert message.count("\n") == 0


def test_a_batch_that_does_not_fit_points_to_the_batch(tmp_path: Path) -> None:
    wide = SMALL.replace("micro_batch_size: 2", "micro_batch_size: 100000")
    assert "grids[0].micro_batch_size" in refused(tmp_path, f"  - {{num_layers: 2, {wide}}}", cores(2))


def test_memory_of_a_small_model_is_at_least_its_states(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, f"  - {{num_layers: 2, {SMALL}}}\n  - {{num_layers: 3, {SMALL}}}", cores(2))
    shape = Shape.of(
        "bert",
        num_layers=2,
        hidden_size=128,
        num_heads=2,
        intermediate_size=512,
        vocab_size=1000,
        sequence_length=64,
        micro_batch_size=2,
    )
    price = next(trial.price for trial in plan.trials if trial.spec.configuration.num_layers == 2)
    assert 16 * float(parameters(shape)) < price.memory_bytes_per_device < 2 * GIB


ASIDE = "devices: {misfits: set_aside}"


def test_what_no_device_here_can_run_is_set_aside_where_the_sweep_says_so(tmp_path: Path) -> None:
    huge = "num_layers: 96, hidden_size: 12288, sequence_length: 512, micro_batch_size: 1"
    grids = (
        f"  - {{gpu_model: [each, No Such GPU], precision: [fp32, tf32], num_layers: 2, {SMALL}}}\n"
        f"  - {{strategy: [ddp, fsdp], gpu_count: [2, 4, 8], num_layers: 2, {SMALL}}}\n"
        f"  - {{{huge}}}\n  - {{strategy: fsdp, gpu_count: 2, {huge}}}"
    )
    plan = plan_of(tmp_path, grids, cores(2), rest=ASIDE)
    kept = {(t.spec.configuration.strategy, t.spec.configuration.gpu_count) for t in plan.trials}
    assert kept == {("single", 1), ("ddp", 2), ("fsdp", 2)}
    reasons = Counter(each.kind for each in plan.set_aside)
    assert reasons == {
        "no node has a 'No Such GPU'": 2,
        "4 ranks need 4 devices on one node; the most that one has: 2 x AMD EPYC (1 core)": 2,
        "8 ranks need 8 devices on one node; the most that one has: 2 x AMD EPYC (1 core)": 2,
        "AMD EPYC (1 core) cannot train in tf32": 1,
        "more memory than the 7.4 GiB that AMD EPYC (1 core) has to use": 2,
    }
    assert not any(each.baseline for each in plan.set_aside), "what does not run needs no baseline"
    (tmp_path / "plan.json").write_text(json.dumps(plan.to_dict()))
    assert Plan.load(tmp_path) == plan


def test_an_error_where_nothing_is_left_of_a_sweep(tmp_path: Path) -> None:
    grids = f"  - {{strategy: fsdp, gpu_count: [4, 8], num_layers: 2, {SMALL}}}"
    message = refused(tmp_path, grids, cores(2), rest=ASIDE)
    assert message.startswith(
        "sweep.yaml:6 devices.misfits: nothing here can run any of the 2 configurations: 1 x 4 ranks"
    )


def test_a_long_plan_is_summed_up(tmp_path: Path) -> None:
    lengths = ", ".join(str(8 * each) for each in range(1, 41))
    sizes = SMALL.replace("sequence_length: 64", f"sequence_length: [{lengths}]")
    grids = f"  - {{strategy: [ddp, fsdp], gpu_count: [2, 4, 64], num_layers: 2, {sizes}}}"
    plan = plan_of(tmp_path, grids, cores(4), rest=ASIDE)
    console = Console(width=130, record=True, file=(tmp_path / "out").open("w"))
    show_plan(plan, [cores(4)], [], MeterInfo("none", "none", "", (), {}, {}), console)
    text = console.export_text()
    assert len(plan.trials) == 200
    assert len(text.splitlines()) < 40
    rows = [line.split() for line in text.splitlines() if line.strip().startswith(("1 ", "2 ", "4 "))]
    summed = {(row[0], row[1]): " ".join(row[3:]) for row in rows if row[1] != "x"}
    assert summed.keys() == {("4", "ddp"), ("4", "fsdp"), ("2", "ddp"), ("2", "fsdp"), ("1", "single")}
    assert all("2 128 8 to 320 2 1 40" in row for row in summed.values()), "each has all 40 lengths"
    assert "Set aside: 80 configurations: 64 ranks need 64 devices on one node" in text
    assert f"{len(plan.trials)} trials on 4 devices" in text


def test_a_precision_that_the_device_lacks_is_refused(tmp_path: Path) -> None:
    message = refused(tmp_path, f"  - {{precision: tf32, num_layers: 2, {SMALL}}}", cores(2))
    said = "AMD EPYC (1 core) cannot train in tf32; one of fp32, fp16, bf16"
    assert message == f"sweep.yaml:5 grids[0].precision: {said}"
    assert "one of fp32" in refused(tmp_path, f"  - {{precision: bf16, num_layers: 2, {SMALL}}}", gpus(T4, 1, 15))


def test_work_of_a_step_counts_devices_and_accumulation(tmp_path: Path) -> None:
    grids = f"  - {{strategy: fsdp, gpu_count: 2, grad_accumulation: [1, 3], num_layers: 2, {SMALL}}}"
    plan = plan_of(tmp_path, grids, cores(2))
    flop = {
        (t.spec.configuration.gpu_count, t.spec.configuration.grad_accumulation): t.price.flop_per_step
        for t in plan.trials
    }
    assert flop[1, 3] == pytest.approx(3 * flop[1, 1])
    assert flop[2, 3] == pytest.approx(6 * flop[1, 1])
    tokens, width, layers, length, batch = 128, 128, 2, 64, 2
    body = layers * (24 * tokens * width**2 + 4 * batch * length**2 * width)
    assert flop[1, 1] == pytest.approx(3 * body, rel=0.02), "the head adds a little"


def test_the_hold_out_is_drawn_by_case_and_is_the_same_every_time(tmp_path: Path) -> None:
    grids = f"  - {{strategy: [fsdp, zero2], gpu_count: 2, num_layers: [1, 2, 3, 4, 5, 6, 7, 8], {SMALL}}}"
    plan = plan_of(tmp_path, grids, cores(2))
    again = plan_of(tmp_path, grids, cores(2))
    split = {trial.trial_id: trial.split for trial in plan.trials}
    assert split == {trial.trial_id: trial.split for trial in again.trials}
    assert plan.hold_out.hash == again.hold_out.hash
    by_case: dict[str, set[str]] = {}
    for trial in plan.trials:
        by_case.setdefault(trial.spec.configuration.case_id, set()).add(trial.split)
    assert all(len(splits) == 1 for splits in by_case.values())
    assert sum("hold_out" in splits for splits in by_case.values()) == 2, "a quarter of eight cases"


def test_a_sweep_of_one_case_holds_nothing_out_unless_it_asks_for_it(tmp_path: Path) -> None:
    grids = f"  - {{num_layers: 2, {SMALL}}}"
    plan = plan_of(tmp_path, grids, cores(2))
    assert ([trial.split for trial in plan.trials], plan.hold_out.by) == (["fit"], "")
    message = refused(tmp_path, grids, cores(2), rest="hold_out: {fraction: 0.3}")
    assert message.startswith("sweep.yaml:6 hold_out: only one group")
    assert "fraction: 0" in message


def test_a_plan_survives_the_file(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, f"  - {{strategy: fsdp, gpu_count: 2, num_layers: [2, 3], {SMALL}}}", cores(2))
    (tmp_path / "plan.json").write_text(json.dumps(plan.to_dict()))
    loaded = Plan.load(tmp_path)
    assert loaded == plan
    assert loaded.plan_id == plan.plan_id


def test_a_plan_with_own_texts_survives_the_file_and_its_baselines_have_them_too(tmp_path: Path) -> None:
    study_folder(tmp_path)
    grids = f"  - {{strategy: [ddp, tp], gpu_count: 2, num_layers: [2, 3], {SMALL}}}"
    plan = plan_of(tmp_path, grids, cores(2), rest="data: {path: texts.csv, tokenizer: tokenizer}")
    named = {each.spec.configuration.data.path for each in plan.trials if each.spec.configuration.data}
    assert named == {"texts.csv"}
    assert all(each.spec.configuration.data for each in plan.trials)
    assert sum(each.baseline for each in plan.trials) == 2
    (tmp_path / "plan.json").write_text(json.dumps(plan.to_dict()))
    assert Plan.load(tmp_path) == plan


@pytest.mark.parametrize("content", ["{", "[]", '{"schema": 99}', '{"schema": 1, "name": "x"}'])
def test_a_file_that_is_no_plan_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "plan.json").write_text(content)
    with pytest.raises(InputError, match=r"plan\.json"):
        Plan.load(tmp_path)


def test_a_hold_out_moved_by_hand_is_noticed(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, f"  - {{num_layers: [2, 3, 4], {SMALL}}}", cores(2))
    text = json.dumps(plan.to_dict()).replace('"split": "hold_out"', '"split": "fit"', 1)
    (tmp_path / "plan.json").write_text(text)
    with pytest.raises(InputError, match="changed since it was drawn"):
        Plan.load(tmp_path)


def test_the_same_study_may_be_resumed_and_another_may_not(tmp_path: Path) -> None:
    grids = f"  - {{num_layers: [2, 3], {SMALL}}}"
    plan = plan_of(tmp_path, grids, cores(2))
    cheaper = tuple(replace(trial, price=replace(trial.price, step_s=1.0)) for trial in plan.trials)
    plan.check_same_study(replace(plan, trials=cheaper), tmp_path)  # a better forecast is no other study
    more = plan_of(tmp_path, grids.replace("[2, 3]", "[2, 3, 4]"), cores(2))
    with pytest.raises(InputError, match=r"another study \(1 trials added.*--into"):
        more.check_same_study(plan, tmp_path)
    other_meter = plan_of(tmp_path, grids, cores(2), rest="metering: {cpu_w_per_core: 9}")
    with pytest.raises(InputError, match=r"metering\.cpu_w_per_core None -> 9\.0"):
        other_meter.check_same_study(plan, tmp_path)
    longer = plan_of(tmp_path, grids, cores(2), rest="window: {min_steps: 30}")
    with pytest.raises(InputError, match="2 trials changed"):
        longer.check_same_study(plan, tmp_path)


def test_large_groups_come_first_and_the_longest_of_a_group(tmp_path: Path) -> None:
    grids = f"  - {{num_layers: [2, 12], {SMALL}}}\n  - {{strategy: fsdp, gpu_count: 2, num_layers: [2, 12], {SMALL}}}"
    plan = plan_of(tmp_path, grids, cores(2))
    order = [(t.spec.configuration.gpu_count, t.spec.configuration.num_layers) for t in plan.trials]
    assert order == [(2, 12), (2, 2), (1, 12), (1, 2)]


def test_expected_time_follows_the_devices(tmp_path: Path) -> None:
    grids = f"  - {{num_layers: [2, 3, 4, 5], {SMALL}}}\n  - {{strategy: fsdp, gpu_count: 2, num_layers: 2, {SMALL}}}"
    plan = plan_of(tmp_path, grids, cores(2))
    times = {"single": 10.0, "fsdp": 7.0}
    trials = [
        replace(trial, price=replace(trial.price, trial_s=times[trial.spec.configuration.strategy]))
        for trial in plan.trials
    ]
    assert expected_wall_s(trials, [cores(2)]) == 7 + 2 * 10
    assert expected_wall_s(trials, [cores(4)]) == 7 + 10
    assert expected_wall_s(trials, [cores(4)], one_trial_nodes=["a"]) == 7 + 4 * 10
    unknown = [replace(trials[0], price=replace(trials[0].price, trial_s=None)), *trials[1:]]
    assert expected_wall_s(unknown, [cores(2)]) is None


def test_a_window_holds_both_minima_and_stops_at_its_end() -> None:
    window = Window(warmup_steps=1, min_steps=20, min_s=2.0, max_s=10.0)
    assert [measured_steps(step_s, window) for step_s in (0.01, 0.2, 1.0, 60.0)] == [200, 20, 10, 1]


def test_more_cores_a_device_than_there_are_is_told_with_the_sweeps_line(tmp_path: Path) -> None:
    path = tmp_path / "sweep.yaml"
    path.write_text(f"schema: 1\nname: x\ngrids: [{{num_layers: 2, {SMALL}}}]\ndevices:\n  cores_per_device: 4096\n")
    with pytest.raises(InputError) as caught:
        local_nodes(load_sweep(path))
    assert f"{path}:5 devices.cores_per_device: 4096 cores per device" in str(caught.value)


def test_the_plan_is_shown_whole(tmp_path: Path) -> None:
    grids = f"  - {{strategy: fsdp, gpu_count: 2, num_layers: [2, 3], {SMALL}}}"
    plan = plan_of(tmp_path, grids, cores(2))
    console = Console(width=200, record=True, file=(tmp_path / "out").open("w"))
    show_plan(
        plan, [cores(2)], ["AMD EPYC (1 core)"], MeterInfo("rapl", "measured", "cpu_package", (), {}, {}), console
    )
    text = console.export_text()
    assert "Joules: measured by rapl, covering cpu_package" in text
    assert all(trial.trial_id in text for trial in plan.trials)
    assert "2 x AMD EPYC (1 core)" in text
    assert "4 trials on 2 devices, expected to take about" in text
    assert plan.hold_out.hash[:16] in text
    assert "in no catalogue" in text


def test_windows_that_would_be_too_short_are_told_before_they_run(tmp_path: Path) -> None:
    for window, count in (("{min_steps: 1, min_s: 0.5}", 1), ("{min_steps: 1, min_s: 1}", 0)):
        plan = plan_of(tmp_path, f"  - {{num_layers: 2, {SMALL}}}", cores(2), rest=f"window: {window}\n")
        console = Console(width=200, record=True, file=(tmp_path / "out").open("w"))
        show_plan(plan, [cores(2)], [], None, console)
        told = "1 trial expected to be measured for less than 1 s, which would be invalid (window_too_short)"
        assert (told in console.export_text()) == (count > 0)


@pytest.mark.parametrize("precision", ["tf32", "bf16"])
def test_an_unlisted_gpu_before_ampere_is_refused_what_it_lacks_at_plan_time(precision: str, tmp_path: Path) -> None:
    node = gpus("Unlisted Turing", 1, 8)
    old = replace(node, devices=tuple(replace(each, compute_capability=(7, 5)) for each in node.devices))
    grid = f"  - {{num_layers: 2, precision: {precision}, {SMALL}}}"
    assert f"Unlisted Turing cannot train in {precision}; one of fp32, fp16" in refused(tmp_path, grid, old)


def test_the_quickstart_runs_whole_on_two_cores_and_spreads_its_step_times() -> None:
    nodes = [cores(2)]
    catalogue, assumed = with_assumed(Catalogue.load(), nodes)
    plan = make_plan(load_sweep("quickstart"), nodes, catalogue)
    held = sum(trial.split == "hold_out" for trial in plan.trials)
    assert len(plan.trials) == 46
    assert not plan.set_aside
    assert not any(trial.baseline for trial in plan.trials)
    assert 0.2 <= held / len(plan.trials) <= 0.4
    steps = [trial.price.step_s for trial in plan.trials if trial.price.step_s is not None]
    assert max(steps) / min(steps) > 20
    assert assumed == ("AMD EPYC (1 core)",)
