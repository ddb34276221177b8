"""A study of 100,000 trials on 10,000 devices, planned and simulated, beside the least time that any schedule takes.

    python benchmarks/scheduling.py [--trials 100000] [--devices 10000]

Six device models, nodes of 8. Durations are lognormal about their forecasts (30 % by configuration, 3 % by repeat, and
the scheduler is told only the forecasts); attempts fail and are retried by the study's own rule; nodes are lost and
come back. The first study is a sweep that goes through `joulelaw plan`'s own code; the others have shapes that are hard
in one way each. Beside each, the very same trials and misfortunes under plain first come, first served. Prints Markdown
and, last, one JSON object.
"""

import argparse
import json
import random
import sys
import tempfile
import time
from collections import defaultdict, deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from measuring import machine, table

from joulelaw.bench.plan.making import make_plan
from joulelaw.bench.spec.sweep_file import load_sweep
from joulelaw.bench.study.lineup import waiting_trial
from joulelaw.cluster.failures import Cause
from joulelaw.cluster.nodes.inventory import Device, Node
from joulelaw.cluster.scheduling.capacity import Capacity
from joulelaw.cluster.scheduling.fates import Fates
from joulelaw.cluster.scheduling.scheduler import Assignment, FreeDevices, WaitingTrial
from joulelaw.cluster.scheduling.simulator import Scheduler, simulate
from joulelaw.cluster.scheduling.timeline import Timeline, busy_share, lower_bound_s
from joulelaw.model.hardware import Catalogue

MODELS = (
    "Tesla V100-SXM2-32GB",
    "NVIDIA A40",
    "NVIDIA L40S",
    "NVIDIA A100-SXM4-80GB",
    "NVIDIA H100 80GB HBM3",
    "NVIDIA H200",
)
PER_NODE = 8
REPEATS = 3
# Of an attempt; what the causes mean, and which of them are retried, is cluster/scheduling/retries.py's.
FAILURES = {Cause.RANK_CRASH: 0.01, Cause.RANK_ERROR: 0.005, Cause.OUT_OF_MEMORY: 0.005, Cause.HANG: 0.001}
NO_HANGS = {cause: share for cause, share in FAILURES.items() if cause is not Cause.HANG}
NODE_LIFE_S, NODE_AWAY_S = 200 * 3600.0, 1200.0

# What a bigger sweep of the kind that is shipped looks like, on every model there is. JSON is YAML.
SHAPE = {
    "model_family": "bert",
    "precision": "fp16",
    "gpu_model": "each",
    "num_layers": [4, 6, 8, 10, 12, 16, 20, 24],
    "hidden_size": [256, 384, 512, 640, 768, 1024],
    "sequence_length": [64, 128, 256, 512],
    "micro_batch_size": [4, 8, 16, 32],
}
GRIDS = [
    SHAPE | {"strategy": "single"},
    SHAPE | {"strategy": ["ddp", "fsdp"], "gpu_count": [2, 4, 8]},
]
SWEEP = {
    "schema": 1,
    "name": "many",
    "seed": 7,
    "grids": GRIDS,
    "repeats": REPEATS,
    "window": {"min_steps": 5000, "min_s": 60, "max_s": 1800},  # one minute to half an hour, by forecast
}


class FirstCome:
    """Plain first come, first served, a queue for each model: the first one that does not fit holds up its queue."""

    def __init__(self) -> None:
        self._capacity = Capacity()
        self._queues: dict[str, deque[WaitingTrial]] = {}

    def add(self, trial: WaitingTrial) -> None:
        self._queues.setdefault(trial.model, deque()).append(trial)

    def see(self, free_by_model: FreeDevices, one_trial_nodes: Collection[str] = ()) -> None:
        self._capacity.see(free_by_model, one_trial_nodes)

    def next(self, now_s: float) -> Assignment | None:
        for queue in self._queues.values():
            if queue and (nodes := self._capacity.choose(queue[0], {})) is not None:
                return Assignment(queue[0].trial_id, nodes)
        return None

    def start(self, assignment: Assignment, now_s: float) -> WaitingTrial:
        queue = next(queue for queue in self._queues.values() if queue and queue[0].trial_id == assignment.trial_id)
        trial = queue.popleft()
        self._capacity.hold(trial, assignment.nodes, now_s)
        return trial

    def end(self, trial_id: str) -> WaitingTrial:
        return self._capacity.release(trial_id)


def inventory(devices: int) -> list[Node]:
    """Nodes of 8 devices, of each model as many."""
    catalogue = Catalogue.load()
    each = -(-devices // (PER_NODE * len(MODELS)))
    return [
        Node(name, name, tuple(_device(f"{name}-{k}", model, k, catalogue) for k in range(PER_NODE)), 1 << 40, 64, "x")
        for m, model in enumerate(MODELS)
        for name in (f"node{m}-{i:03d}" for i in range(each))
    ]


def _device(uuid: str, model: str, index: int, catalogue: Catalogue) -> Device:
    return Device(uuid, model, index, "cuda", int(catalogue.get(model).memory_bytes), (), None, "580")


def planned(nodes: Sequence[Node]) -> list[WaitingTrial]:
    """The sweep's trials in its order, by the planner; their durations as the law forecasts them before any fit."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sweep.yaml"
        path.write_text(json.dumps(SWEEP))
        sweep = load_sweep(path)
        plan = make_plan(sweep, nodes, Catalogue.load())
    place = {
        replace(asked.configuration, gpu_model=model): (i, model)
        for i, asked in enumerate(sweep.asked)
        for model in MODELS
    }
    return [waiting_trial(each) for each in sorted(plan.trials, key=lambda each: place[each.spec.configuration])]


def shaped(
    trials: int,
    sizes: Mapping[int, float],
    duration_s: Callable[[random.Random], float],
    seed: int = 0,
) -> list[WaitingTrial]:
    """Configurations of these group sizes (16 and more across nodes) and forecasts, 3 repeats each; one baseline in 5
    configurations, which the other four are compared with."""
    chance = random.Random(seed)
    found: list[WaitingTrial] = []
    number = 0
    while len(found) < trials:
        model, case = MODELS[number // 5 % len(MODELS)], f"case{number // 5}"
        baseline = number % 5 == 0
        count = 1 if baseline else chance.choices(list(sizes), list(sizes.values()))[0]
        expected_s = duration_s(chance)
        found += [
            WaitingTrial(
                *(f"t{number:06d}-{repeat}", model, count, expected_s, -(-count // PER_NODE), repeat),
                *(baseline, f"c{number}", case),
            )
            for repeat in range(REPEATS)
        ]
        number += 1
    return found[:trials]


MIXED = {1: 4, 2: 3, 4: 2, 8: 2, 16: 1}
SHAPES: dict[str, Callable[[int], list[WaitingTrial]]] = {
    "all of 2 min: nothing to even out the end with": lambda n: shaped(n, MIXED, lambda chance: 120.0),
    "groups of 1 to 16, 2 to 15 min": lambda n: shaped(n, MIXED, lambda chance: chance.uniform(120, 900)),
    "as many of each size": lambda n: shaped(n, dict.fromkeys(MIXED, 1), lambda chance: chance.uniform(120, 900)),
    "single devices only": lambda n: shaped(n, {1: 1}, lambda chance: chance.uniform(120, 900)),
    "heavy-tailed: Pareto, up to 2 h": lambda n: shaped(
        n, MIXED, lambda chance: min(7200.0, 180 * chance.paretovariate(1.3))
    ),
    "a few of 2 h among many of 2 min": lambda n: shaped(
        n, MIXED, lambda chance: 7200.0 if chance.random() < 0.01 else chance.uniform(60, 180)
    ),
}


@dataclass(frozen=True)
class Outcome:
    """A study under one scheduler. Seconds of the study, but for `took_s`: the simulation's own."""

    makespan_s: float
    bound_s: float
    bound_with_lost_s: float
    busy: float
    attempts: int
    took_s: float
    cpu_s: float


def play(
    trials: Sequence[WaitingTrial],
    nodes: Sequence[Node],
    scheduler: Scheduler | None = None,
    failures: Mapping[Cause, float] = FAILURES,
) -> Outcome:
    """Each study meets the same durations, failures and losses, whoever schedules it."""
    sizes = {node.node_id: {node.devices[0].model: len(node.devices)} for node in nodes}
    fates = Fates(seed=1, failures=failures)
    begin, cpu_s = time.perf_counter(), time.process_time()
    changes = fates.node_changes(sizes, NODE_LIFE_S, NODE_AWAY_S, until_s=24 * 3600)
    timeline = simulate(trials, sizes, fates, changes, scheduler=scheduler)
    took_s, cpu_s = time.perf_counter() - begin, time.process_time() - cpu_s
    check(timeline, trials)
    bound_s = lower_bound_s(timeline)
    return Outcome(
        timeline.makespan_s,
        bound_s,
        lower_bound_s(timeline, lost_attempts=True),
        busy_share(timeline, bound_s),
        len(timeline.attempts),
        took_s,
        cpu_s,
    )


def check(timeline: Timeline, trials: Sequence[WaitingTrial]) -> None:
    """Every trial came to its one end, and no node ever had more to do than it has devices."""
    if timeline.stranded or {each.trial_id for each in timeline.attempts} != {each.trial_id for each in trials}:
        raise SystemExit("trials are missing")
    changes = [(each.time_s, 0, each.node, sum(each.devices.values())) for each in timeline.changes if each.devices]
    for each in timeline.attempts:
        for node in each.nodes:
            share = each.count // len(each.nodes)
            changes += [(each.began_s, 2, node, -share), (each.ended_s, 1, node, share)]
    free: defaultdict[str, int] = defaultdict(int)
    for _, _, node, more in sorted(changes):
        free[node] += more
        if free[node] < 0:
            raise SystemExit(f"more runs on {node} than it has devices for")


def row(name: str, trials: Sequence[WaitingTrial], ours: Outcome, calm: Outcome, naive: Outcome) -> list[object]:
    return [
        name,
        f"{len(trials):,}",
        f"{ours.attempts - len(trials):,}",
        f"{ours.bound_s / 3600:.2f}",
        f"{ours.makespan_s / 3600:.2f}",
        f"{percent(ours.makespan_s / ours.bound_s - 1)}",
        f"{percent(ours.makespan_s / ours.bound_with_lost_s - 1)}",
        f"{percent(calm.makespan_s / calm.bound_s - 1)}",
        f"{percent(naive.makespan_s / ours.bound_s - 1)}",
        f"{1e3 * ours.cpu_s / ours.attempts:.2f}",
    ]


def percent(share: float) -> str:
    return f"{100 * share:.1f} %"


HEADER = [
    "study",
    "trials",
    "attempts that failed",
    "least time, h",
    "ours, h",
    "above the least",
    "above the least with failed attempts",
    "above the least if none hung",
    "first come, first served: above the least",
    "CPU ms an attempt",
]


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--trials", type=int, default=100_000)
    options.add_argument("--devices", type=int, default=10_000)
    asked = options.parse_args()
    print(f"On {machine()}.\n")
    nodes = inventory(asked.devices)
    begin, cpu_s = time.perf_counter(), time.process_time()
    trials = planned(nodes)
    planned_s, planned_cpu_s = time.perf_counter() - begin, time.process_time() - cpu_s
    rows, outcomes, found = [], {}, {}
    studies = {"a sweep": lambda _: trials} | SHAPES
    for name, make in studies.items():
        each = make(asked.trials)
        ours = play(each, nodes)
        calm = play(each, nodes, failures=NO_HANGS)
        naive = play(each, nodes, FirstCome())
        outcomes[name] = ours
        rows.append(row(name, each, ours, calm, naive))
        found[name] = {"trials": len(each), "ours": asdict(ours), "no_hangs": asdict(calm), "first_come": asdict(naive)}
        print(rows[-1], file=sys.stderr, flush=True)
    devices = sum(len(node.devices) for node in nodes)
    first = outcomes["a sweep"]
    print(
        f"{len(trials):,} trials of a sweep on {devices:,} devices of {len(MODELS)} models: "
        f"planned in {planned_s:.0f} s ({planned_cpu_s:.0f} s of CPU), "
        f"simulated in {first.took_s:.0f} s ({first.cpu_s:.0f} s of CPU).\n"
    )
    print(table(HEADER, rows))
    print(json.dumps({"planned_s": planned_s, "devices": devices, "studies": found}))


if __name__ == "__main__":
    main()
