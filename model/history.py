"""A law's history: when it was fitted, when it was calibrated for a device, and what each calibration did for it."""

import datetime
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, Self, get_args

import numpy as np
import numpy.typing as npt

from joulelaw import __version__
from joulelaw.model.metrics import bias, mape

Array = npt.NDArray[np.float64]
What = Literal["fitted", "calibrated"]


@dataclass(frozen=True)
class Errors:
    """How forecasts of one target missed trials that the law had not seen. Shares are plain numbers (0.1 is 10 %)."""

    n: int
    mape: float  # mean absolute error relative to the measured value
    bias: float  # geometric mean of predicted / measured, less 1
    coverage: float  # share of measured values inside their 95 % interval
    half_width_factor: float  # the median interval is a factor this much either way

    @classmethod
    def of(cls, measured: Array, forecast: Array, low: Array, high: Array) -> Self:
        """Where the law forecasts nothing (nan) the shares are nan."""
        inside = np.where(np.isfinite(forecast), (low <= measured) & (measured <= high), np.nan)
        return cls(
            n=len(measured),
            mape=mape(measured, forecast),
            bias=bias(measured, forecast),
            coverage=float(np.mean(inside)),
            half_width_factor=float(np.median(np.sqrt(high / low))),
        )


SHARES = tuple(each.name for each in fields(Errors) if each.name != "n")


@dataclass(frozen=True)
class Event:
    """One entry: what was done to the law, when, with which program and on which trials.

    Of a calibration that was judged: the errors on its validation trials before and after, by target (duration,
    energy), whether the law holds for the device (None: that could not be told), and the verdict in words.
    """

    what: What
    at: str  # ISO 8601, UTC
    joulelaw: str  # the program's version
    gpu_models: tuple[str, ...]
    n_trials: int
    n_cases: int
    data_hash: str
    before: Mapping[str, Errors] | None = None
    after: Mapping[str, Errors] | None = None
    holds: bool | None = None
    verdict: str = ""

    @classmethod
    def now(cls, what: What, gpu_models: tuple[str, ...], n_trials: int, n_cases: int, data_hash: str) -> Self:
        at = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        return cls(what, at, __version__, gpu_models, n_trials, n_cases, data_hash)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Of what `fault` finds nothing wrong with."""
        judged = {name: _errors_from(values[name]) for name in ("before", "after")}
        return cls(**{**values, "gpu_models": tuple(values["gpu_models"]), **judged})


def _errors_from(by_target: Mapping[str, Any] | None) -> Mapping[str, Errors] | None:
    if by_target is None:
        return None
    return {
        # JSON has no nan: None stands for it
        target: Errors(errors["n"], *(math.nan if errors[name] is None else errors[name] for name in SHARES))
        for target, errors in by_target.items()
    }


def fault(values: Any) -> str:
    """What is wrong with an entry as a file has it; nothing where it is one."""
    names = {each.name for each in fields(Event)}
    if not isinstance(values, dict) or set(values) != names:
        return "is no entry"
    if values["what"] not in get_args(What):
        return f"is of what is not known here, {values['what']!r}"
    texts = [values[name] for name in ("at", "joulelaw", "data_hash", "verdict")]
    models = values["gpu_models"]
    if not isinstance(models, list) or not all(isinstance(each, str) for each in [*texts, *models]):
        return "has something else where a text belongs"
    if not all(type(values[name]) is int for name in ("n_trials", "n_cases")):
        return "has counts that are no whole numbers"
    if values["holds"] not in (True, False, None):
        return f"holds {values['holds']!r}"
    return _fault_of_errors(values["before"]) or _fault_of_errors(values["after"])


def _fault_of_errors(by_target: Any) -> str:
    if by_target is None:
        return ""
    if not isinstance(by_target, dict):
        return "has errors that are none"
    for target, errors in by_target.items():
        right = isinstance(errors, dict) and set(errors) == {"n", *SHARES} and type(errors["n"]) is int
        if not right or not all(errors[name] is None or type(errors[name]) in (int, float) for name in SHARES):
            return f"has errors of {target} that are none"
    return ""
