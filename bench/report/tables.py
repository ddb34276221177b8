"""The report's tables as text, ready for the page: scores, coefficients, validity, trials."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from joulelaw.bench.report.law_words import cell
from joulelaw.bench.report.names import short_device
from joulelaw.bench.report.quantity import MISSING, interval, percent, quantity
from joulelaw.bench.report.study import Study
from joulelaw.bench.trial.checks import EXPLANATIONS, Remark
from joulelaw.model.laws.base import Coefficient

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


def coefficients(study: Study) -> list[tuple[str, Table]]:
    """The law's fitted numbers by target, what is shown first ahead, with 95 % intervals, units and meanings."""
    if study.law is None:
        return []
    targets = list(dict.fromkeys((*study.targets, *(each.target for each in study.law.coefficients))))
    tables = [(target, _coefficients([c for c in study.law.coefficients if c.target == target])) for target in targets]
    return [(target, table) for target, table in tables if table.rows]


def _coefficients(mine: Sequence[Coefficient]) -> Table:
    rows = tuple(
        (
            cell(each.name),
            quantity(each.value, each.unit),
            interval(each.low, each.high, each.unit),
            each.unit,
            "at its bound" if each.at_bound else "" if each.identified else "left open",
        )
        for each in mine
    )
    heads = ("coefficient", "value", "95 % interval", "unit", "remark")
    return Table(heads, rows, frozenset({1, 2}), remarks=tuple(each.meaning for each in mine))


def history(study: Study) -> Table | None:
    """When the law was fitted and calibrated, and what each calibration did for it; None where nothing is noted."""
    if study.law is None or not study.law.history:
        return None
    rows = tuple(
        (
            event.at,
            event.what,
            ", ".join(event.gpu_models),
            str(event.n_trials),
            *(
                f"{percent(event.before[target].mape)} → {percent(event.after[target].mape)}"
                if event.before and event.after and target in event.before and target in event.after
                else MISSING
                for target in ("energy", "duration")
            ),
            event.joulelaw,
        )
        for event in study.law.history
    )
    heads = ("at", "what", "GPU models", "trials", "error of energy", "error of duration", "joulelaw")
    return Table(heads, rows, frozenset({3}))


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
    for code, count in codes.most_common():
        has = [reasons is not None and code in reasons for reasons in refused["reasons"]]
        rows.append((code, EXPLANATIONS.get(code, ""), str(count), some(list(refused["trial_id"][has]))))
    for cause, part in refused[refused["status"] == "failed"].groupby("failure"):
        rows.append(("failed", str(cause), str(len(part)), some(list(part["trial_id"]))))
    aside = Counter(str(each.get("kind") or each["reason"]) for each in study.plan.get("set_aside", []))
    rows += [("set aside", f"before the run: {reason}", str(count), "") for reason, count in aside.items()]
    missing = len(study.plan.get("trials", [])) - len(trials)
    if missing > 0:
        rows.append(("not run yet", "in the plan, without a result", str(missing), ""))
    return Table(("verdict", "what it means", "trials", "which"), tuple(rows), frozenset({2}), frozenset({0}))


def trial_table(study: Study) -> Table:
    """One row a trial, in the order of `study.trials`. The page's script finds columns by their heads."""
    one = study.trials["gpu_model"].nunique() <= 1
    results = ("duration", "duration off", "energy", "energy off", "verdict", "split")
    heads = (
        "trial",
        "strategy",
        "devices",
        *(() if one else ("GPU",)),
        *results,
        "layers",
        "width",
        "length",
        "batch",
        "precision",
    )
    rows = tuple(_trial_row(row, one) for row in study.trials.to_dict("records"))
    numbers = {"devices", "duration", "duration off", "energy", "energy off", "layers", "width", "length", "batch"}
    return Table(heads, rows, frozenset(place for place, head in enumerate(heads) if head in numbers))


def _trial_row(row: Mapping[Any, Any], one: bool) -> tuple[str, ...]:
    accumulation = f" × {row['grad_accumulation']}" if row["grad_accumulation"] > 1 else ""
    return (
        row["trial_id"],
        row["strategy"],
        str(row["gpu_count"]),
        *(() if one else (short_device(row["gpu_model"]),)),
        quantity(row["duration_s"], "s"),
        percent(off(row, "duration_s"), signed=True),
        quantity(row["energy_j"], "J"),
        percent(off(row, "energy_j"), signed=True),
        "failed" if row["status"] == "failed" else row["verdict"],
        "held out" if row["held_out"] else "fit" if pd.isna(row["split"]) else row["split"].replace("_", " "),
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
