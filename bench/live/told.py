"""What a metered training says: a forecast before, joules on the way, a summary after. Every energy names its meter."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from joulelaw.bench.console import duration, number, table
from joulelaw.bench.live.forecast import Stated
from joulelaw.bench.live.measured import Measured
from joulelaw.bench.trial.checks import EXPLANATIONS

_TWO_SIDED_95 = 1.96
PADDED = "texts were of several lengths: `joulelaw fit` leaves the row out, as laws count full sequences"


@dataclass(frozen=True)
class Summary:
    """A metered training. `energy_j` is of all of it, evaluations and checkpoints included, by `meter` of `meter_kind`.

    `window` is its measured stretch of steady steps; `trial_id` its row in `into`, and `no_row` why there is none.
    `own_cpu_s` is the processor time that metering took in this process while it trained, `hooks_cpu_s` that part of it
    that the steps waited for, and `steps_cpu_s` all that the process used meanwhile.
    """

    energy_j: float | None
    training_s: float
    steps: int
    meter: str
    meter_kind: str
    boundary: str
    own_cpu_s: float
    hooks_cpu_s: float
    steps_cpu_s: float
    window: Measured | None = None
    forecast: Stated | None = None
    trial_id: str | None = None
    into: str | None = None
    no_row: str = ""

    @property
    def energy_meter(self) -> str:
        """The meter and the kind of number, as in `nvml, measured`."""
        return f"{self.meter}, {self.meter_kind}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for logs and JSON."""
        window = self.window
        verdict = None if window is None else window.verdict
        return {
            "energy_j": self.energy_j,
            "energy_meter": self.energy_meter,
            "boundary": self.boundary,
            "training_s": self.training_s,
            "steps": self.steps,
            "window_steps": window and window.steps,
            "window_s": window and window.duration_s,
            "window_energy_j": window and window.energy.energy_j,
            "verdict": verdict and verdict.text,
            "reasons": verdict.codes if verdict else [],
            "trial_id": self.trial_id,
            "into": self.into,
            "no_row": self.no_row,
            "own_cpu_s": self.own_cpu_s,
        }


def shown(summary: Summary) -> Table:
    """The whole training, and its window beside the forecast of just that."""
    made = table(f"Energy by {summary.energy_meter}, of {summary.boundary}", ["", *_NUMERIC], _NUMERIC)
    power_w = None if summary.energy_j is None else summary.energy_j / summary.training_s
    made.add_row(
        "the whole training", str(summary.steps), duration(summary.training_s), number(summary.energy_j), "-",
        number(power_w),
    )  # fmt: skip
    if (window := summary.window) is not None:
        energy_j, stderr_j, seconds = window.energy.energy_j, window.energy.stderr_j, window.duration_s
        around = "-"
        if energy_j is not None and stderr_j is not None:
            around = _interval(energy_j - _TWO_SIDED_95 * stderr_j, energy_j + _TWO_SIDED_95 * stderr_j)
        mean_w = None if energy_j is None else energy_j / seconds
        made.add_row(
            "its measured window", str(window.steps), duration(seconds), number(energy_j), around, number(mean_w)
        )
        if summary.forecast is not None:
            at = summary.forecast.share(window.micro_steps)
            made.add_row(
                "forecast of the window", str(window.steps), duration(at.duration_s), number(at.energy_j),
                _interval(at.energy_low_j, at.energy_high_j), number(at.energy_j / at.duration_s),
            )  # fmt: skip
    return made


_NUMERIC = ("steps", "time", "energy J", "95 %", "mean W")


def _interval(low: float, high: float) -> str:
    return f"{number(low)} to {number(high)}"


def notes(summary: Summary) -> Iterator[str]:
    """What the numbers do not say of themselves."""
    if summary.meter_kind == "estimated":
        yield "Estimated: CPU time x the watts stated for a core. It says nothing of the machine's real power."
    if summary.forecast is not None and summary.forecast.boundary != summary.boundary:
        yield f"The forecast's joules are of {summary.forecast.boundary}, the meter's of {summary.boundary}."
    if summary.window is not None:
        for code in summary.window.verdict.codes:
            yield f"{code}: {EXPLANATIONS[code]}"
    yield (
        f"Added to {summary.into} as {summary.trial_id}: {_use(summary)}"
        if summary.trial_id
        else (f"No row: {summary.no_row}")
    )


def _use(summary: Summary) -> str:
    """What becomes of the row."""
    window = summary.window
    if window is not None and not window.verdict.valid:
        return "an invalid row, which `joulelaw fit` leaves out"
    if window is not None and not window.full_texts:
        return PADDED
    return f"`joulelaw fit {summary.into} --out LAW.json` uses it"


def told_forecast(forecast: Stated, law: str, steps: int) -> Iterator[str]:
    """Before the first step."""
    yield f"Forecast of {steps} steps by the law {law}: {forecast.words}"
    if forecast.extrapolates:
        yield f"Beyond what that law was fitted on: {forecast.extrapolates}"
    yield from (f"The forecast's {warning}" for warning in forecast.warnings)


def log_values(told: Mapping[str, float | None], meter: str) -> dict[str, float | str]:
    """For a line of a log; what is not known is left out."""
    known = {name: _short(value) for name, value in told.items() if value is not None}
    return {**known, "energy_meter": meter} if known else {}


def _short(value: float) -> float:
    """To four digits: more would not be true, and fill the line."""
    return float(f"{value:.4g}") if math.isfinite(value) else value
