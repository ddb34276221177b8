"""A plan for people: its trials, groups, memory, expected time and hold-out, as tables."""

import heapq
from collections.abc import Sequence

from rich.console import Console

from joulelaw.bench.console import duration, number, table
from joulelaw.bench.plan import Plan, PlannedTrial
from joulelaw.cluster.inventory import Node

COLUMNS = {
    "trial": False,
    "devices": False,
    "strategy": False,
    "L": True,
    "h": True,
    "s": True,
    "B": True,
    "k": True,
    "precision": False,
    "split": False,
    "GFLOP/step": True,
    "GiB/device": True,
    "step": True,
    "trial time": True,
}


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


def show_plan(plan: Plan, nodes: Sequence[Node], assumed: Sequence[str], console: Console) -> None:
    """Prints the plan; `assumed` are the device models whose figures nobody has measured yet."""
    console.print(_trials(plan))
    console.print(
        "L layers, h width, s tokens a sequence, B sequences a micro-batch, k micro-steps a step; + added baseline"
    )
    console.print(_groups(plan))
    for each in plan.set_aside:
        what = "baseline" if each.baseline else "configuration"
        console.print(f"set aside: {what} {each.configuration.configuration_id}: {each.reason}")
    wall = expected_wall_s(plan.trials, nodes)
    devices = sum(len(node.devices) for node in nodes)
    console.print(f"{len(plan.trials)} trials on {devices} devices, expected to take about {duration(wall)}")
    for name in assumed:
        console.print(f"{name} is in no catalogue: times are rough until `joulelaw run` has measured it")
    console.print(_hold_out(plan))


def _trials(plan: Plan) -> object:
    shown = table(f"Plan of {plan.name}", list(COLUMNS), [name for name, right in COLUMNS.items() if right])
    for trial in plan.trials:
        c, price = trial.spec.configuration, trial.price
        shown.add_row(
            trial.trial_id + (" +" if trial.baseline else ""),
            f"{c.gpu_count} x {c.gpu_model}",
            c.strategy,
            *(
                str(n)
                for n in (c.num_layers, c.hidden_size, c.sequence_length, c.micro_batch_size, c.grad_accumulation)
            ),
            c.precision,
            trial.split.replace("_", " "),
            number(price.flop_per_step / 1e9),
            number(price.memory_bytes_per_device / 2**30, 2),
            _step(price.step_s),
            duration(price.trial_s),
        )
    return shown


def _groups(plan: Plan) -> object:
    shown = table("Groups", ["group", "trials", "device time"], ["trials", "device time"])
    for group in dict.fromkeys(trial.group for trial in plan.trials):
        mine = [trial for trial in plan.trials if trial.group == group]
        seconds = [trial.price.trial_s for trial in mine]
        known = sum(each for each in seconds if each is not None) if None not in seconds else None
        shown.add_row(f"{group[1]} x {group[0]}", str(len(mine)), duration(known))
    return shown


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
