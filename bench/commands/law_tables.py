"""Coefficients and held-out scores for people. Scores of estimated joules are greyed and say what they are."""

from rich.table import Table

from joulelaw.bench.console import number, table
from joulelaw.model.laws.base import FittedLaw, Provenance
from joulelaw.model.metrics import Score
from joulelaw.model.validation import Summary, Validation

ESTIMATED = "estimated: watts x time, an identity"
SCORES = ("n", "R2 log", "R2 per token", "MAPE", "bias", "slope", "worst MAPE", "in 95 %")


def estimated_note(provenance: Provenance) -> tuple[str, ...]:
    """What must be said beside any energy that no meter measured."""
    if not provenance.energy_is_estimated:
        return ()
    return (f"joules here are {ESTIMATED}; the result is the law of duration",)


def coefficients_table(fitted: FittedLaw) -> Table:
    """One row a coefficient: value, 95 % interval, unit, meaning, and what is to be thought of it."""
    origin = fitted.provenance
    title = f"{fitted.law.name}, fitted on {origin.n_trials} trials of {origin.n_cases} cases"
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
    """One row a law or baseline: its scores on all held-out trials together.

    A window's minimum makes the durations of short steps alike, which R2 punishes: R2 per token is free of that.
    """
    grey = target == "energy" and result.energy_is_estimated
    title = f"{target}, held out by {result.hold_out}" + (f" ({ESTIMATED})" if grey else "")
    shown = table(title, ["law", *SCORES, "worst group"], SCORES)
    best = [each for each in result.summaries if each.target == target]
    for each in sorted(best, key=_order):
        name = f"{each.law} (post-run)" if each.post_run else each.law
        shown.add_row(name, *_cells(each.pooled), each.pooled.worst_group, style="dim" if grey else None)
    if grey:
        shown.caption = ESTIMATED
    return shown


def _order(summary: Summary) -> tuple[bool, float]:
    """Forecasts first, the best of them on top; what needs the run's own results after them."""
    return summary.post_run, -summary.pooled.r2_log if summary.pooled.r2_log == summary.pooled.r2_log else 1e9


def _cells(score: Score) -> tuple[str, ...]:
    def percent(value: float) -> str:
        return "-" if value != value else f"{100 * value:.1f} %"

    return (
        str(score.n),
        number(score.r2_log),
        number(score.r2_log_per_token),
        percent(score.mape),
        percent(score.bias),
        number(score.calibration_slope),
        percent(score.worst_group_mape),
        percent(score.coverage),
    )
