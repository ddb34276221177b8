"""A plan for people: its trials, groups, memory, expected time and hold-out, as tables."""

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table

from joulelaw.bench.console import counted, duration, table
from joulelaw.bench.plan.meter import NO_JOULES
from joulelaw.bench.plan.plan import Plan, SetAside, group_counts
from joulelaw.bench.plan.table import LEGEND, total_s, trial_table
from joulelaw.bench.trial.checks import MIN_WINDOW_S, Reason
from joulelaw.cluster.nodes.inventory import Node
from joulelaw.cluster.streams.metering import MeterInfo


def show_plan(
    plan: Plan,
    nodes: Sequence[Node],
    assumed: Sequence[str],
    meter: MeterInfo | None,
    console: Console,
    wall_s: float | None = None,
) -> None:
    """Prints the plan; `assumed` are the device models whose figures nobody has measured yet.

    `meter` is None where it is not known: a cluster's are opened by the study. `wall_s` is what it is expected to take.
    """
    console.print(trial_table(plan))
    console.print(LEGEND)
    console.print(_groups(plan))
    for counts in set_aside_counts(plan):
        console.print(_set_aside(counts), markup=False)  # it may hold words of the sweep
    devices = sum(len(node.devices) for node in nodes)
    where = counted(devices, "device") + (f" of {len(nodes)} nodes" if len(nodes) > 1 else "")
    console.print(f"{counted(len(plan.trials), 'trial')} on {where}, expected to take about {duration(wall_s)}")
    if short := _short(plan):
        console.print(short)
    for name in assumed:
        console.print(f"{name} is in no catalogue: times are rough until `joulelaw run` has measured it")
    console.print(_metered(meter))
    console.print(_hold_out(plan))


def set_aside_counts(plan: Plan) -> list[dict[str, object]]:
    """What will not run, an entry for each kind of reason: one configuration has its own reason, several the kind."""
    kinds: dict[str, list[SetAside]] = {}
    for each in plan.set_aside:
        kinds.setdefault(each.kind, []).append(each)
    return [
        {
            "configurations": sum(not each.baseline for each in several),
            "baselines": sum(each.baseline for each in several),
            "reason": several[0].reason if len(several) == 1 else kind,
        }
        for kind, several in kinds.items()
    ]


def _set_aside(counts: Mapping[str, object]) -> str:
    told = [(counts[f"{word}s"], word) for word in ("configuration", "baseline")]
    what = " and ".join(f"{count} {word}{'s' if count != 1 else ''}" for count, word in told if count)
    return f"Set aside: {what}: {counts['reason']}"


def _groups(plan: Plan) -> Table:
    shown = table("Groups", ["group", "trials", "device time"], ["trials", "device time"])
    for group in group_counts(plan.trials):
        mine = [trial for trial in plan.trials if trial.group == group]
        shown.add_row(f"{group[1]} x {group[0]}", str(len(mine)), duration(total_s(mine)))
    return shown


def _short(plan: Plan) -> str:
    """What is to be said of windows that nobody would believe; "" where there are none."""
    asked = [(each.spec.window, each.price.step_s) for each in plan.trials]
    count = sum(step_s is not None and max(own.min_s, own.min_steps * step_s) < MIN_WINDOW_S for own, step_s in asked)
    if not count:
        return ""
    told = f"{counted(count, 'trial')} expected to be measured for less than {MIN_WINDOW_S:g} s, which would be invalid"
    remedy = f"window: {{min_s: {MIN_WINDOW_S:g}}} in the sweep makes them long enough"
    return f"{told} ({Reason.WINDOW_TOO_SHORT}): {remedy}"


def _metered(meter: MeterInfo | None) -> str:
    if meter is None:
        return "Joules: by the meter that the study opens on each node"
    return NO_JOULES if meter.kind == "none" else f"Joules: {meter.kind} by {meter.name}, covering {meter.boundary}"


def _hold_out(plan: Plan) -> str:
    held = [trial for trial in plan.trials if trial.split == "hold_out"]
    if not held:
        return "Nothing is held out: no forecast of this study can be tested on it."
    cases = len({trial.spec.configuration.case_id for trial in held})
    rule = plan.hold_out
    return (
        f"Held out: {counted(len(held), 'trial')} of {counted(cases, 'case')}, drawn by {rule.by} with seed "
        f"{rule.seed}; SHA-256 of the split {rule.hash[:16]}..."
    )
