"""Which trials to run next on a new device: those that leave the forecasts of a whole plan least in doubt.

Optimal design, linearised: a trial's measured duration and energy shrink the covariance of the law's parameters by
slopes that are known before it runs, so the choice is blind to every outcome. Trials are taken one by one, each the
one that lowers most the mean variance of the plan's log forecasts (greedy V-optimality; Chaloner and Verdinelli 1995).
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.linalg import block_diag

from joulelaw import InputError
from joulelaw.model.calibration import belief_of
from joulelaw.model.fitting import NOISE
from joulelaw.model.intervals import DISCREPANCY, TARGETS, Z
from joulelaw.model.laws.base import FittedLaw, Rows
from joulelaw.model.laws.roofline import Roofline
from joulelaw.model.laws.roofline_power import SCALE
from joulelaw.model.tables import check_configurations, key

Array = npt.NDArray[np.float64]

GROUPS = ("model_family", "strategy")


@dataclass(frozen=True)
class Design:
    """Trials to run, in order, and how wide the plan's forecasts are expected to be before and after each.

    Factors are medians over the plan: the 95 % interval reaches so far either way. `done` says that the tolerance is
    reached with the last of them, in energy and in duration.
    """

    positions: tuple[int, ...]
    energy_factors: tuple[float, ...]  # one more than positions: the first is before any
    duration_factors: tuple[float, ...]
    done: bool


def choose(
    fitted: FittedLaw,
    plan: pd.DataFrame,
    most: int = 8,
    tolerance: float = 1.5,
    *,
    run: Sequence[int] = (),
    barred: Sequence[int] = (),
    known: FittedLaw | None = None,
) -> Design:
    """At most `most` rows of a plan (all of one device model) to run, until the median intervals of energy and duration
    are within `tolerance` either way. The factor cannot get below what the law misses unseen cases of known devices by,
    and what a strategy may be off by on a new device (`intervals.DISCREPANCY`).

    `run` are rows that have run already, `known` is the law calibrated on them: the choice goes on from there, with
    slopes at its parameters. `barred` are rows that cannot be chosen.
    """
    if not isinstance(fitted.law, Roofline):
        raise InputError(
            f"the law {fitted.law.name} has no corrections by device", where="law", remedy="use a roofline"
        )
    rows = Rows.of(fitted.at_boundary(check_configurations(plan)), fitted.catalogue).pre_run()
    models = sorted(set(rows.table["gpu_model"]))
    if len(models) != 1:
        what = f"a plan of {len(models)} device models ({', '.join(models)})"
        raise InputError(what, where="plan, column gpu_model", remedy="choose for one device model at a time")
    greedy = _Greedy.of(fitted, rows, models[0], {} if known is None else known.parameters)
    for row in run:
        greedy.take(row)
    return greedy.run(most, tolerance, {*run, *barred})


@dataclass
class _Greedy:
    """The covariance as it shrinks, the slopes of what trials tell and of what is to be forecast, and what unseen
    cases of known devices are missed by (half-widths).

    No law is the truth: on a new device a strategy of a family may be off as a whole, which only a trial of it tells.
    These discrepancies stand among the parameters here.
    """

    covariance: Array
    told: dict[str, Array]
    wanted: dict[str, Array]
    missed: dict[str, Array]
    parameters: int  # of the law: what follows them are discrepancies

    @classmethod
    def of(cls, fitted: FittedLaw, rows: Rows, model: str, known: Mapping[str, float]) -> "_Greedy":
        belief, groups = belief_of(fitted, model), _group_columns(rows)
        # What scales all joules of a device without a power limit changes no slope: any watts stand in.
        scale = {SCALE.format(model): 1.0}
        parameters = {
            **scale,
            **fitted.parameters,
            **dict(zip(belief.names, np.exp(belief.mean), strict=True)),
            **known,
        }
        names, slopes = fitted.law.slopes(parameters, rows)
        told, wanted = {}, {}
        for target in TARGETS:
            off = [groups * (each == target) for each in TARGETS]
            wanted[target] = np.hstack([belief.columns(names, slopes[target]), *off])
            # Of a trial that has run the seconds are measured: its joules tell of the energy's own parameters.
            own = [name.startswith(f"{target}.") for name in belief.names]
            told[target] = np.hstack([belief.columns(names, slopes[target]) * own, *off])
        discrepancies = DISCREPANCY**2 * np.eye(len(TARGETS) * groups.shape[1])
        missed = {
            target: np.nan_to_num(width, nan=Z * NOISE) for target, width in fitted.widths.of_cases(rows.table).items()
        }
        return cls(block_diag(belief.covariance, discrepancies), told, wanted, missed, len(belief.names))

    def run(self, most: int, tolerance: float, barred: Collection[int]) -> Design:
        chosen: list[int] = []
        factors = {target: [self._factor(target)] for target in TARGETS}
        left = len(self.wanted["energy"]) - len(barred)
        while len(chosen) < min(most, left) and not _reached(factors, tolerance):
            best = self._best([*chosen, *barred])
            chosen.append(best)
            self.take(best)
            for target in TARGETS:
                factors[target].append(self._factor(target))
        energy, duration = (tuple(factors[target]) for target in ("energy", "duration"))
        return Design(tuple(chosen), energy, duration, _reached(factors, tolerance))

    def take(self, row: int) -> None:
        """The covariance after this row's trial."""
        for target in TARGETS:
            self.covariance = _after(self.covariance, self.told[target][row])

    def _factor(self, target: str) -> float:
        """As `FittedLaw` makes the intervals of a calibrated device, which knows no discrepancy by name."""
        slope, covariance = (
            self.wanted[target][:, : self.parameters],
            self.covariance[: self.parameters, : self.parameters],
        )
        variance = np.einsum("ij,ij->i", slope @ covariance, slope) + DISCREPANCY**2
        return float(np.exp(np.median(np.hypot(self.missed[target], Z * np.sqrt(variance)))))

    def _best(self, barred: Sequence[int]) -> int:
        """The row whose trial lowers most the variance summed over the plan and both targets."""
        gains = np.zeros(len(self.wanted["energy"]))
        for target in TARGETS:
            reach = self.told[target] @ self.covariance
            doubt = np.einsum("ij,ij->i", reach, self.told[target]) + NOISE**2
            for wanted in self.wanted.values():
                gains += ((reach @ wanted.T) ** 2).sum(axis=1) / doubt
        gains[list(barred)] = -np.inf
        return int(np.argmax(gains))


def _group_columns(rows: Rows) -> Array:
    """One column for each strategy of each model family: 1 where a row belongs to it."""
    names = key(rows.table, GROUPS)
    return np.column_stack([(names == name).to_numpy(dtype=float) for name in sorted(set(names))])


def _reached(factors: Mapping[str, Sequence[float]], tolerance: float) -> bool:
    return max(each[-1] for each in factors.values()) <= tolerance


def _after(covariance: Array, slope: Array) -> Array:
    """The covariance after one more measurement of this slope."""
    reach = covariance @ slope
    return np.asarray(covariance - np.outer(reach, reach) / (slope @ reach + NOISE**2))
