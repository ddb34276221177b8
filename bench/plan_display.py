"""A plan for people: its trials, groups, memory, expected time and hold-out, as tables."""

import heapq
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from joulelaw.bench.console import duration, number, table
from joulelaw.bench.plan import Plan, PlannedTrial, group_counts
from joulelaw.bench.plan_meter import NO_JOULES
from joulelaw.cluster.inventory import Node
from joulelaw.cluster.metering import MeterInfo

LEFT = ("trial", "device", "strategy", "precision", "split")
COLUMNS = (
    *("trial", "device", "n", "strategy", "L", "h", "s", "B", "k", "precision", "split"),
    *("GFLOP/step", "GiB/device", "step", "trial time"),
)
LEGEND = (
    "n devices, L layers, h width, s tokens a sequence, B sequences a micro-batch, k micro-steps a step; "
    "+ a baseline that the plan adds"
)


def expected_wall_s(trials: Sequence[PlannedTrial], nodes: Sequence[Node]) -> float | None:
    """Seconds until the last trial ends, each starting as soon as devices of one node are free; None if one is unknown.

    A list schedule in the plan's order; the study's own scheduler may do a little better or worse.
    """
    free = {
        (node.node_id, model): [0.0] * sum(device.model == model for device in node.devices)
        for node in nodes
        for model in {device.model for device in node.devices}
    }
    end = 0.0
    for trial in trials:
        model, count = trial.group
        if trial.price.trial_s is None:
            return None
        places = [times for (_, name), times in free.items() if name == model and len(times) >= count]
        times = min(places, key=lambda times: heapq.nsmallest(count, times)[-1])
        times.sort()
        done = times[count - 1] + trial.price.trial_s
        times[:count] = [done] * count
        end = max(end, done)
    return end


def show_plan(plan: Plan, nodes: Sequence[Node], assumed: Sequence[str], meter: MeterInfo, console: Console) -> None:
    """Prints the plan; `assumed` are the device models whose figures nobody has measured yet."""
    console.print(_trials(plan))
    console.print(LEGEND)
    console.print(_groups(plan))
    for each in plan.set_aside:
        what = "baseline" if each.baseline else "configuration"
        console.print(f"set aside: {what} {each.configuration.configuration_id}: {each.reason}")
    wall = expected_wall_s(plan.trials, nodes)
    devices = sum(len(node.devices) for node in nodes)
    console.print(f"{len(plan.trials)} trials on {devices} devices, expected to take about {duration(wall)}")
    for name in assumed:
        console.print(f"{name} is in no catalogue: times are rough until `joulelaw run` has measured it")
    console.print(_metered(meter))
    console.print(_hold_out(plan))


def _trials(plan: Plan) -> Table:
    several = len({trial.group[0] for trial in plan.trials}) > 1
    columns = [name for name in COLUMNS if several or name != "device"]  # one model is named with the groups
    shown = table(f"Plan of {plan.name}", columns, [name for name in columns if name not in LEFT])
    for trial in plan.trials:
        cells = _cells(trial)
        shown.add_row(*(cells[name] for name in columns))
    return shown


def _cells(trial: PlannedTrial) -> dict[str, str]:
    c, price = trial.spec.configuration, trial.price
    return {
        "trial": trial.trial_id + (" +" if trial.baseline else ""),
        "device": c.gpu_model,
        "n": str(c.gpu_count),
        "strategy": c.strategy,
        "L": str(c.num_layers),
        "h": str(c.hidden_size),
        "s": str(c.sequence_length),
        "B": str(c.micro_batch_size),
        "k": str(c.grad_accumulation),
        "precision": c.precision,
        "split": trial.split.replace("_", " "),
        "GFLOP/step": number(price.flop_per_step / 1e9),
        "GiB/device": number(price.memory_bytes_per_device / 2**30, 2),
        "step": _step(price.step_s),
        "trial time": duration(price.trial_s),
    }


def _groups(plan: Plan) -> Table:
    shown = table("Groups", ["group", "trials", "device time"], ["trials", "device time"])
    for group in group_counts(plan.trials):
        mine = [trial for trial in plan.trials if trial.group == group]
        seconds = [trial.price.trial_s for trial in mine]
        known = sum(each for each in seconds if each is not None) if None not in seconds else None
        shown.add_row(f"{group[1]} x {group[0]}", str(len(mine)), duration(known))
    return shown


def _metered(meter: MeterInfo) -> str:
    return NO_JOULES if meter.kind == "none" else f"Joules: {meter.kind} by {meter.name}, covering {meter.boundary}"


def _hold_out(plan: Plan) -> str:
    held = [trial for trial in plan.trials if trial.split == "hold_out"]
    if not held:
        return "Nothing is held out: no forecast of this study can be tested on it."
    cases = len({trial.spec.configuration.case_id for trial in held})
    rule = plan.hold_out
    return (
        f"Held out: {len(held)} trials of {cases} cases, drawn by {rule.by} with seed {rule.seed}; "
        f"SHA-256 of the split {rule.hash[:16]}..."
    )


def _step(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return f"{number(1000 * seconds)} ms" if seconds < 1 else f"{number(seconds)} s"
