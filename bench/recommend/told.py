"""A recommendation for people, as tables and notes, and for programs, as one JSON object."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from joulelaw.bench.console import ExitCode, last_line, to_people
from joulelaw.bench.forecast.boundaries import boundary_warnings
from joulelaw.bench.forecast.forecast import level_of
from joulelaw.bench.forecast.limits import above_limits
from joulelaw.bench.recommend.candidates import AXES
from joulelaw.bench.recommend.fits import in_words
from joulelaw.bench.recommend.odds import COSTS
from joulelaw.bench.recommend.ranking import Recommendation, global_batches
from joulelaw.bench.recommend.tables import NOUNS, amount, candidates_table, probability
from joulelaw.model.laws.base import FittedLaw

FRONT_ROWS = 12  # more are thinned out for people
FRONT_RECORDS = 200  # on the last line; --out FILE has all
# What tells a candidate from others of the front, and what it costs.
BRIEF = ("model", *AXES, "global_batch", *(column for columns in COSTS.values() for column in columns), "extrapolates")
LESS = {"energy": "uses less energy", "time": "takes less time", "cost": "costs less", "co2e": "emits less CO2e"}


def tell(found: Recommendation, fitted: FittedLaw, out: Path | None) -> ExitCode:
    """Prints it all, the JSON last; returns the exit code: failed where no candidate keeps the limits."""
    console = to_people()
    for line in _counts(found, fitted):
        console.print(line, markup=False)
    if found.best is not None:
        shown = [found.best, *found.next]
        console.print(candidates_table(found, f"Lowest {NOUNS[found.asked.by]}{_limits(found)}", shown))
        console.print(sureness(found))
        if found.of_kinds:
            console.print(candidates_table(found, "Best of each other GPU model and strategy", found.of_kinds))
    console.print(candidates_table(found, "Pareto front of energy against time", _thinned(found.front), odds=False))
    for note in notes(found, fitted):
        console.print(f"Note: {note}", markup=False)
    code = ExitCode.FAILED if found.best is None else ExitCode.DONE
    last_line("recommend", code, **content(found, fitted, out))
    return code


def sureness(found: Recommendation) -> str:
    """Whether the best beats the next, and how sure that is."""
    if not found.next:
        return "No other candidate was compared with it."
    sure = found.odds[found.next[0]]
    if not np.isfinite(sure):
        return "The law states no doubt of its forecasts: how sure the order is, is not known."
    return f"The first {LESS[found.asked.by]} than the second with probability {probability(sure)}."


def notes(found: Recommendation, fitted: FittedLaw) -> list[str]:
    """What is to be known of the candidates and of the forecasts."""
    rows, told = found.candidates, []
    batches = global_batches(rows)
    if len(batches) > 1:
        told.append(
            f"candidates take {batches[0]} to {batches[-1]} sequences an optimizer step: different trainings, which "
            "may not reach the same model; --global-batch N compares equal ones"
        )
    if rows["model"].nunique() > 1:
        told.append(f"{rows['model'].nunique()} models are compared: what they cost, not what they learn")
    if found.best is not None and not rows.loc[found.best, "inside"]:
        told.append(f"nothing inside the law's ranges is left: the first lies outside ({_why(found, found.best)})")
    if found.cheaper_outside is not None:
        at = found.cheaper_outside
        odds = 1 - found.odds[at]
        sure = f", lower with probability {probability(odds)}" if np.isfinite(odds) else ""
        told.append(
            f"forecast to be lower, but outside the law's ranges ({_why(found, at)}) and so not preferred: "
            f"{in_words(rows.iloc[at])}: {_said(rows.iloc[at], found.asked.by)}{sure}"
        )
    if found.nearest is not None:
        told.append(f"no candidate keeps the limits{_limits(found)}; the nearest: {_nearest(found)}")
    if (rows["node_count"] > 1).any() and "network_bytes_per_s" not in rows:
        told.append("no --network-bytes-per-s: between nodes the speed of the devices' own link is assumed")
    chosen = rows if found.best is None else rows.loc[[found.best, *found.next]]
    if beyond := int(above_limits(chosen).sum()):
        told.append(
            f"{beyond} of the {'candidates' if found.best is None else 'lowest'} draw more on average than their "
            "devices may (power limit x devices): their energy or time is off"
        )
    for boundary in sorted(set(rows["boundary"].astype(str))):
        told += boundary_warnings(boundary, fitted.provenance)
    return told


def content(found: Recommendation, fitted: FittedLaw, out: Path | None) -> dict[str, Any]:
    """What the last line holds."""
    origin, rows = fitted.provenance, found.candidates

    def record(at: int, names: Sequence[str] = tuple(rows.columns)) -> dict[str, Any]:
        row = {name: rows.at[at, name] for name in names if name in rows}
        return row | ({"p_best_is_lower": found.odds[at]} if at in found.odds else {})

    single = {"best": found.best, "cheaper_outside": found.cheaper_outside, "nearest": found.nearest}
    front = found.front
    return {
        "by": found.asked.by,
        "limits": dict(found.asked.limits),
        "confidence": found.asked.confidence,
        "interval_level": level_of(fitted),
        "candidates": len(rows),
        "inside_ranges": int(rows["inside"].sum()),
        "within_limits": int(rows["within_limits"].sum()),
        "left_out": found.left_out,
        "meters": origin.meters,
        "boundaries": origin.boundaries,
        "energy_is_estimated": origin.energy_is_estimated,
        "p_first_beats_second": found.odds[found.next[0]] if found.next else None,
        **{name: None if at is None else record(at) for name, at in single.items()},
        "next": [record(at, BRIEF) for at in found.next],
        "of_kinds": [record(at, BRIEF) for at in found.of_kinds],
        "front_size": len(front),
        "front": [record(at, BRIEF) for at in front[:FRONT_RECORDS]],
        "notes": notes(found, fitted),
        "out": out,
    }


def _counts(found: Recommendation, fitted: FittedLaw) -> list[str]:
    rows = found.candidates
    parts = [f"{count:,} {_LEFT_OUT.get(reason, reason)}" for reason, count in found.left_out.items() if count]
    left = f" Left out: {', '.join(parts)}." if parts else ""
    meters = ", ".join(f"{meter} ({kind})" for meter, kind in fitted.provenance.meters) or "none"
    joules = f"Joules are of boundary {', '.join(sorted(set(rows['boundary'].astype(str))))}, fitted on meter {meters}."
    outside = int((~rows["inside"]).sum())
    return [
        f"{len(rows):,} candidates fit, {outside:,} of them outside the law's ranges (marked !).{left}",
        f"{joules} Intervals are of {100 * level_of(fitted):.0f} %.",
    ]


_LEFT_OUT = {
    "precision": "whose precision the device has not",
    "memory": "that do not fit in memory",
    "unknown cost": "whose cost the law cannot tell",
}


def _limits(found: Recommendation) -> str:
    if not found.asked.limits:
        return ""
    told = [f"{NOUNS[name]} {amount(limit, name, _currency(found))}" for name, limit in found.asked.limits.items()]
    return f" within {', '.join(told)} (kept with probability {found.asked.confidence:g} at least)"


def _nearest(found: Recommendation) -> str:
    assert found.nearest is not None
    row = found.candidates.iloc[found.nearest]
    told = [_said(row, name) for name in found.asked.limits]
    return f"{in_words(row)}: {'; '.join(told)}; kept with probability {probability(float(row['p_within_limits']))}"


def _said(row: "pd.Series[Any]", name: str) -> str:
    """A cost with its interval, in words."""
    currency = str(row.get("currency", ""))
    value, low, high = (amount(float(row[column]), name, currency) for column in COSTS[name])
    return f"{NOUNS[name]} {value} ({low} to {high})"


def _currency(found: Recommendation) -> str:
    return str(found.candidates["currency"].iloc[0]) if "currency" in found.candidates else ""


def _why(found: Recommendation, at: int) -> str:
    return str(found.candidates.at[at, "extrapolates"])


def _thinned(front: Sequence[int]) -> list[int]:
    """The ends of a front and some between them, evenly."""
    at = np.unique(np.linspace(0, len(front) - 1, min(FRONT_ROWS, len(front))).round().astype(int))
    return [front[k] for k in at]
