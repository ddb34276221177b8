"""What surrounds the figures: the headline, the key figures, where the law comes from, the environment."""

import inspect
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from joulelaw.bench.console import counted
from joulelaw.bench.report.forecast_charts import held_out_error
from joulelaw.bench.report.quantity import number, percent, quantity
from joulelaw.bench.report.study import ESTIMATED, Study


def headline(study: Study) -> str:
    """The result in one sentence."""
    if study.law is None or study.forecast.empty:
        return f"{len(study.valid)} valid trials, not yet compared with a law."
    name = study.law.law.name.replace("_", " ")
    if study.by_folds:
        return _by_folds(study, name)
    count, duration = held_out_error(study, "duration")
    if not count:
        return f"A {study.law.law.name} law fitted on {len(study.counted)} trials, none of which was held out."
    told = [f"duration to {percent(duration)}"]
    if not study.estimated:
        told.insert(0, f"energy to {percent(held_out_error(study, 'energy')[1])}")
    return f"On {counted(count, 'held-out trial')} the {name} law forecasts {' and '.join(told)} (mean absolute error)."


def _by_folds(study: Study, name: str) -> str:
    """As the validation scores it: medians over folds, since no trial was held out for good."""
    assert study.validation is not None
    assert study.law is not None
    mine = {each["target"]: each for each in study.validation["summaries"] if each["law"] == study.law.law.name}
    wanted = [
        target for target in ("energy", "duration") if target in mine and not (target == "energy" and study.estimated)
    ]
    told = [f"{target} to {percent(mine[target]['median']['mape'])}" for target in wanted]
    folds = max(each["folds"] for each in mine.values())
    return (
        f"Trials that were left out of a fit{study.hold_out_rule}, are forecast by the {name} law: "
        f"{' and '.join(told)} (mean absolute error, median over {folds} folds)."
    )


def key_figures(study: Study) -> list[tuple[str, str]]:
    """A few numbers to begin with: (what, value)."""
    valid = study.valid
    models = sorted(set(study.trials["gpu_model"]))
    figures = [("valid trials", f"{len(valid)} of {len(study.trials)}"), ("device", ", ".join(models) or "none")]
    if len(valid):
        steps = valid["step_s_median"].fillna(valid["duration_s"] / (valid["micro_steps"] / valid["grad_accumulation"]))
        held = counted(int(valid["held_out"].sum()), "trial")
        figures += [
            ("held out", f"{held}, in turn" if study.by_folds else held),
            ("fastest to slowest step", f"{quantity(steps.min(), 's')} to {quantity(steps.max(), 's')}"),
        ]
    return [*figures, ("energy", study.meter + (f"; {ESTIMATED}" if study.estimated else ""))]


def law_text(study: Study) -> str:
    """The law in words and formulas, as its source has it."""
    module = inspect.getmodule(type(study.law.law)) if study.law else None
    return inspect.getdoc(module) or ""


def origin(study: Study) -> list[tuple[str, str]]:
    """Where the law comes from: (what, value)."""
    if study.law is None:
        return []
    source = study.law.provenance
    meters = "; ".join(f"{name} ({kind})" for name, kind in source.meters)
    widths = study.law.widths
    facts = [
        ("law", study.law.law.name),
        ("fitted on", f"{source.n_trials} trials of {source.n_cases} cases"),
        ("meter", f"{meters}, boundary {', '.join(source.boundaries)}"),
        (
            "intervals of forecasts",
            f"{widths.method}; {percent(widths.achieved)} achieved" if widths.method else "none",
        ),
        ("hash of the data", source.data_hash),
        ("made by", source.created_by),
    ]
    ranges = "; ".join(f"{name} {_range(values)}" for name, values in source.ranges.items())
    return [*facts, ("checksum of the law", study.law_checksum), ("ranges fitted", ranges)]


def environment(study: Study) -> list[tuple[str, str]]:
    """What the trials ran on, as saved before the first: (what, value)."""
    values = {key: value for key, value in study.environment.items() if key != "nodes"}
    facts = list(_flat(values))
    for node in study.environment.get("nodes", []):
        head = f"{node.get('cpu_count')} CPUs, {node.get('cpu_model')}, {quantity(node.get('memory_bytes'), 'B')}"
        facts.append((f"node {str(node.get('node_id', ''))[:12]}", head))
        devices = Counter(_device(device) for device in node.get("devices", []))
        facts += [(f"{count} × device", words) for words, count in devices.items()]
    return facts


def _range(values: Any) -> str:
    if all(isinstance(value, str) for value in values):
        return ", ".join(values)
    low, high = (float(value) for value in (values[0], values[-1]))
    ends = [f"{end:g}" if end < 1e6 else number(end) for end in (low, high)]
    return ends[0] if low == high else " to ".join(ends)


def _device(device: Mapping[str, Any]) -> str:
    limit = device.get("power_limit_w")
    parts = [
        str(device.get("gpu_model")),
        quantity(device.get("memory_bytes"), "B"),
        f"power limit {number(limit)} W" if limit else "no power limit known",
        f"driver {device['driver']}" if device.get("driver") else "",
    ]
    return ", ".join(part for part in parts if part)


def _flat(values: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{key} ")
        else:
            yield f"{before}{key}".replace("_", " "), "not there" if value is None else str(value)
