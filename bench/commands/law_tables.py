"""Coefficients and held-out scores for people. Scores of estimated joules are greyed and say what they are."""

from collections.abc import Sequence

from rich.table import Table

from joulelaw.bench.console import counted, number, table
from joulelaw.model.laws.base import FittedLaw, Provenance
from joulelaw.model.metrics import Score
from joulelaw.model.noise import NoiseFloor
from joulelaw.model.ranges import TEXT_AXES
from joulelaw.model.validation import FoldScore, Summary, Validation

ESTIMATED = "estimated: watts x time, an identity"
SCORES = ("n", "R2 log", "R2 per token", "MAPE", "bias", "slope", "worst MAPE", "in 95 %", "x /")


def estimated_note(provenance: Provenance) -> tuple[str, ...]:
    """What must be said beside any energy that no meter measured."""
    if not provenance.energy_is_estimated:
        return ()
    return (f"joules here are {ESTIMATED}; the result is the law of duration",)


def narrow_notes(provenance: Provenance) -> tuple[str, ...]:
    """What a law was fitted on one of only, so that its forecasts of any other are not held up by a measurement."""
    ones = [f"{axis} ({provenance.ranges[axis][0]})" for axis in TEXT_AXES if len(provenance.ranges.get(axis, ())) == 1]
    if not ones:
        return mixed_notes(provenance)
    told = f"fitted on one {', one '.join(ones)}: any other is extrapolated to, and marked so in forecasts"
    return (told, *mixed_notes(provenance))


def mixed_notes(provenance: Provenance) -> tuple[str, ...]:
    """That joules of different meters, or of different boundaries, were taken together, as was asked for."""
    meters = [f"{name} ({kind})" for name, kind in provenance.meters]
    several = [values for values in (meters, list(provenance.boundaries)) if len(values) > 1]
    return tuple(f"joules of {' and '.join(values)} are taken together" for values in several)


def coefficients_table(fitted: FittedLaw) -> Table:
    """One row a coefficient: value, 95 % interval, unit, meaning, and what is to be thought of it."""
    origin = fitted.provenance
    title = f"{fitted.law.name}, fitted on {counted(origin.n_trials, 'trial')} of {counted(origin.n_cases, 'case')}"
    shown = table(title, ["coefficient", "value", "95 % interval", "unit", "meaning", ""], ["value", "95 % interval"])
    for each in fitted.coefficients:
        remarks = [*(["at bound"] if each.at_bound else []), *([] if each.identified else ["left open by the data"])]
        grey = each.target == "energy" and origin.energy_is_estimated
        if grey:
            remarks.append("estimated")
        interval = f"{number(each.low)} to {number(each.high)}"
        name = f"{each.target}.{each.name}".replace("[", r"\[")
        cells = (name, number(each.value), interval, each.unit, each.meaning, ", ".join(remarks))
        shown.add_row(*cells, style="dim" if grey else None)
    return shown


def scores_table(result: Validation, target: str) -> Table:
    """One row a law or baseline: its scores on all held-out trials together, and the medians of its folds.

    A window's minimum makes the durations of short steps alike, which R2 punishes: R2 per token is free of that.
    """
    medians = ("median R2", "median MAPE") if _folds(result) > 1 else ()
    shown = _scores(result, target, "", ["law", *SCORES, *medians, "worst group"], [*SCORES, *medians])
    for each in sorted(_of(result, target), key=_order):
        median = (number(each.median.r2_log), _percent(each.median.mape))[: len(medians)]
        shown.add_row(_name(each), *_cells(each.pooled), *median, each.pooled.worst_group, style=_style(result, target))
    return shown


def folds_tell_more(result: Validation) -> bool:
    """Whether the scores of single folds are not those of all trials once more, or are not there at all."""
    return _folds(result) > 1 or any(fold.failure for fold in result.fold_scores)


def folds_table(result: Validation, target: str) -> Table:
    """One row a law and fold: its scores, or why there are none."""
    columns = ["law", "fold", "fitted", *SCORES, "worst group"]
    shown = _scores(result, target, ", every fold", columns, ["fitted", *SCORES])
    order = {each.law: place for place, each in enumerate(sorted(_of(result, target), key=_order))}
    mine = [fold for fold in result.fold_scores if fold.target == target]
    for fold in sorted(mine, key=lambda fold: order.get(fold.law, len(order))):
        name = (_name(fold), fold.fold, str(fold.n_fit))
        if fold.score is None:
            shown.add_row(*name, *["-"] * len(SCORES), fold.failure or "it has no forecast", style="dim")
        else:
            shown.add_row(*name, *_cells(fold.score), fold.score.worst_group, style=_style(result, target))
    return shown


def noise_notes(floors: Sequence[NoiseFloor]) -> tuple[str, ...]:
    """What no forecast of these rows can beat, a line for each estimate."""
    if not floors:
        return ("the rows' own noise cannot be told: no repeats, and no three neighbouring configurations",)
    words = {"repeats": "degrees of freedom of repeats", "neighbours": "triples of neighbouring configurations"}
    return tuple(
        f"noise of the rows' {floor.target}: {_percent(floor.sigma)} ({_percent(floor.sigma_robust)} without "
        f"outliers), from {floor.n} {words[floor.method]}; a perfect forecast would have MAPE {_percent(floor.mape)} "
        f"and R2 log {floor.r2_log:.4f}"
        for floor in floors
    )


def _scores(result: Validation, target: str, what: str, columns: Sequence[str], numeric: Sequence[str]) -> Table:
    estimated = target == "energy" and result.energy_is_estimated
    title = f"{target}, held out by {result.hold_out}{what}" + (f" ({ESTIMATED})" if estimated else "")
    shown = table(title, columns, numeric)
    shown.columns[0].min_width = max((len(each.law) for each in result.fold_scores), default=0)
    if estimated:
        shown.caption = ESTIMATED
    return shown


def _folds(result: Validation) -> int:
    return len({fold.fold for fold in result.fold_scores})


def _of(result: Validation, target: str) -> list[Summary]:
    return [each for each in result.summaries if each.target == target]


def _name(each: Summary | FoldScore) -> str:
    return f"{each.law} (post-run)" if each.post_run else each.law


def _style(result: Validation, target: str) -> str | None:
    return "dim" if target == "energy" and result.energy_is_estimated else None


def _order(summary: Summary) -> tuple[bool, float]:
    """Forecasts first, the best of them on top; what needs the run's own results after them."""
    return summary.post_run, -summary.pooled.r2_log if summary.pooled.r2_log == summary.pooled.r2_log else 1e9


def _cells(score: Score) -> tuple[str, ...]:
    return (
        str(score.n),
        number(score.r2_log),
        number(score.r2_log_per_token),
        _percent(score.mape),
        _percent(score.bias),
        number(score.calibration_slope),
        _percent(score.worst_group_mape),
        _percent(score.coverage),
        number(score.half_width_factor),
    )


def _percent(value: float) -> str:
    return "-" if value != value else f"{100 * value:.1f} %"
