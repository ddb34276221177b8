"""The report's tables as text, ready for the page: scores, coefficients, validity, trials."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from joulelaw.bench.report.quantity import MISSING, interval, percent, quantity
from joulelaw.bench.report.study import Study
from joulelaw.bench.trial.checks import Reason, Remark

CONTENDERS = {
    "roofline": "roofline law",
    "reduced_form": "reduced form",
    "reduced_form_post_run": "reduced form, post-run",
    "constant": "baseline: the geometric mean",
    "power_limit_x_time": "baseline: power limit × time",
    "trees": "baseline: boosted trees",
}


@dataclass(frozen=True)
class Table:
    """Column heads and rows of text. `numbers` are the places of columns that align right; `marked` rows stand out.

    `remarks`, where there are any, is one text a row, shown small under its first cell.
    """

    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numbers: frozenset[int] = frozenset()
    marked: frozenset[int] = frozenset()
    remarks: tuple[str, ...] = ()


def scores(study: Study, target: str) -> Table | None:
    """Held-out scores of the laws and, beside them, of the baselines; None without a validation."""
    if study.validation is None:
        return None
    summaries = [each for each in study.validation["summaries"] if each["target"] == target]
    # One fold's score is its own median; over several folds the median says more than the pool.
    rows = tuple(_score_row(each, each["median" if each["folds"] > 1 else "pooled"]) for each in summaries)
    law = study.law.law.name if study.law else ""
    marked = frozenset(place for place, each in enumerate(summaries) if each["law"] == law)
    heads = ("forecast by", "n", "R² log", "R² log per token", "error", "bias", "slope", "coverage", "±")
    return Table(heads, rows, frozenset(range(1, len(heads))), marked, tuple(_score_remark(each) for each in summaries))


def _score_row(summary: Mapping[str, Any], score: Mapping[str, Any]) -> tuple[str, ...]:
    name = CONTENDERS.get(summary["law"], summary["law"].replace("_", " "))
    half = score["half_width_factor"]
    return (
        name,
        str(score["n"]),
        fixed(score["r2_log"]),
        fixed(score["r2_log_per_token"]),
        percent(score["mape"]),
        percent(score["bias"], signed=True),
        fixed(score["calibration_slope"]),
        percent(score["coverage"]),
        MISSING if half is None else f"× {half:.2f}",
    )


def _score_remark(summary: Mapping[str, Any]) -> str:
    score = summary["pooled"]
    known = ["post-run: uses what is known only after the run"] if summary["post_run"] else []
    if score["worst_group"]:
        group = score["worst_group"].replace("=", " ").replace("_", " ")
        known.append(f"worst group: {group}, {percent(score['worst_group_mape'])}")
    return "; ".join(known)


def fixed(value: float | None) -> str:
    """A score near 1, to three decimals."""
    return MISSING if value is None else f"{value:.3f}".replace("-", "−")


def coefficients(study: Study, target: str) -> Table | None:
    """The law's fitted numbers of one target, with 95 % intervals, units and meanings; None without a law."""
    if study.law is None:
        return None
    mine = [each for each in study.law.coefficients if each.target == target]
    rows = tuple(
        (
            each.name,
            quantity(each.value, each.unit),
            interval(each.low, each.high, each.unit),
            each.unit,
            "at its bound" if each.at_bound else "" if each.identified else "left open",
        )
        for each in mine
    )
    heads = ("coefficient", "value", "95 % interval", "unit", "remark")
    return Table(heads, rows, frozenset({1, 2}), remarks=tuple(each.meaning for each in mine))


def validity(study: Study) -> Table:
    """How many trials may be believed, and for each reason why not, which."""
    trials = study.trials
    rows = [("valid", "finished, and its energy passed every check", str(len(study.valid)), "")]
    short = study.valid.drop(index=study.counted.index)
    if len(short):
        meaning = "valid, but left out of fits and forecasts: texts shorter than sequence_length"
        rows.append(("short texts", meaning, str(len(short)), some(list(short["trial_id"]))))
    remarks = Counter(code for codes in study.valid["reasons"] for code in (codes if codes is not None else ()))
    rows += [(each.value, f"valid: {each.explanation}", str(remarks[each]), "") for each in Remark if remarks[each]]
    refused = trials.drop(index=study.valid.index)
    codes = Counter(code for reasons in refused["reasons"] for code in (reasons if reasons is not None else ()))
    known = {reason.value: reason.explanation for reason in Reason}
    for code, count in codes.most_common():
        has = [reasons is not None and code in reasons for reasons in refused["reasons"]]
        rows.append((code, known.get(code, ""), str(count), some(list(refused["trial_id"][has]))))
    for cause, part in refused[refused["status"] == "failed"].groupby("failure"):
        rows.append(("failed", str(cause), str(len(part)), some(list(part["trial_id"]))))
    aside = Counter(str(each.get("kind") or each["reason"]) for each in study.plan.get("set_aside", []))
    rows += [("set aside", f"before the run: {reason}", str(count), "") for reason, count in aside.items()]
    missing = len(study.plan.get("trials", [])) - len(trials)
    if missing > 0:
        rows.append(("not run yet", "in the plan, without a result", str(missing), ""))
    return Table(("verdict", "what it means", "trials", "which"), tuple(rows), frozenset({2}), frozenset({0}))


def trial_table(study: Study) -> Table:
    """One row a trial, in the order of `study.trials`."""
    energy = f"energy{' (estimated)' if study.estimated else ''}"
    results = ("duration", "forecast off", energy, "forecast off", "verdict", "split")
    heads = ("trial", "strategy", "devices", *results, "layers", "width", "length", "batch", "precision")
    rows = tuple(_trial_row(row) for row in study.trials.to_dict("records"))
    return Table(heads, rows, frozenset({2, 3, 4, 5, 6, 9, 10, 11, 12}))


def _trial_row(row: Mapping[Any, Any]) -> tuple[str, ...]:
    accumulation = f" × {row['grad_accumulation']}" if row["grad_accumulation"] > 1 else ""
    return (
        row["trial_id"],
        row["strategy"],
        str(row["gpu_count"]),
        quantity(row["duration_s"], "s"),
        percent(off(row, "duration_s"), signed=True),
        quantity(row["energy_j"], "J"),
        percent(off(row, "energy_j"), signed=True),
        "failed" if row["status"] == "failed" else row["verdict"],
        MISSING if pd.isna(row["split"]) else row["split"].replace("_", " "),
        *(str(row[name]) for name in ("num_layers", "hidden_size", "sequence_length")),
        f"{row['micro_batch_size']}{accumulation}",
        row["precision"],
    )


def off(row: Mapping[Any, Any], name: str) -> float | None:
    """How far the forecast of a trial is off, relative to the measured value; None without one."""
    predicted = row.get(f"predicted_{name}")
    if predicted is None or pd.isna(predicted) or pd.isna(row[name]):
        return None
    return float(predicted / row[name] - 1)


def some(names: Sequence[str], most: int = 4) -> str:
    """The first few names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
