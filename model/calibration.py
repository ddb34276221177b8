"""Few-shot calibration: a fitted roofline takes up a few trials of a device model that it has never seen.

What the law knows is a Gaussian over the logarithms of its parameters (its covariance), in which the corrections of an
unmeasured device stand with the doubt of any new device. Trials on that device update it by Bayes: the new device's
own corrections move first, shared coefficients as far as the rows they came from left them open (a strategy that they
lacked), and what is known of the other devices stays. The update is the maximum of the posterior, linearised there for
the covariance (Laplace). No other row is needed: a law file is enough.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from joulelaw import InputError
from joulelaw.model.fitting import NOISE
from joulelaw.model.history import Event
from joulelaw.model.laws.base import Estimate, FittedLaw, Provenance, Rows
from joulelaw.model.laws.roofline import Roofline, boundaries_of
from joulelaw.model.laws.roofline_forms import Layout, duration_layout, energy_layout, timed_by
from joulelaw.model.laws.roofline_power import default_limit_w, power_scales
from joulelaw.model.laws.roofline_terms import CORRECTIONS, UNMEASURED
from joulelaw.model.levenberg import Problem, minimise, unsettled, weights
from joulelaw.model.ranges import joined, ranges_of
from joulelaw.model.tables import check_measurements, content_hash, meters_of

Array = npt.NDArray[np.float64]

ASSUMED = "calibrated from a law of no trial: what its own trials leave open is assumed of ordinary hardware"
DRAWS = 400  # from the Gaussian, for the intervals of coefficients


@dataclass(frozen=True)
class Belief:
    """A Gaussian over the logarithms of named parameters."""

    names: tuple[str, ...]
    mean: Array
    covariance: Array
    settled: bool = True  # False: a search for the mean was stopped before it came to rest

    def at(self, names: Sequence[str]) -> list[int]:
        """Where these parameters stand."""
        place = {name: j for j, name in enumerate(self.names)}
        return [place[name] for name in names]

    def columns(self, names: Sequence[str], slopes: Array) -> Array:
        """Slopes in named parameters (rows x names) as slopes in these: those not among the names are 0."""
        known = [j for j, name in enumerate(names) if name in set(self.names)]
        result = np.zeros((len(slopes), len(self.names)))
        result[:, self.at([names[j] for j in known])] = slopes[:, known]
        return result


def calibrate(fitted: FittedLaw, table: pd.DataFrame, *, allow_mixed_meters: bool = False) -> FittedLaw:
    """The law after the trials of a measurement table, all of one device model.

    The device may be new to the law or have been calibrated before. Trials without a verdict, mixed meters and what
    else cannot be fitted raise InputError, as do another law than the roofline and a boundary that it does not have.
    """
    checked = check_measurements(table, allow_mixed_meters=allow_mixed_meters)
    rows = Rows.of(checked, fitted.catalogue)
    _check(fitted, rows.table)
    models = sorted(set(rows.table["gpu_model"]))
    if len(models) != 1:
        what = f"trials of {len(models)} device models ({', '.join(models)})"
        raise InputError(what, where="table, column gpu_model", remedy="calibrate one device model at a time")
    belief = belief_of(fitted, models[0])
    scales = power_scales(rows, fitted.parameters)
    micro_steps = rows.column("micro_steps")
    seconds, joules = (rows.column(name) / micro_steps for name in ("duration_s", "energy_j"))
    layout = duration_layout(rows, models)
    belief = _updated(belief, layout, seconds)
    timed = timed_by(layout, belief.mean[belief.at(names_of(layout))], seconds)
    energies = energy_layout(rows, models, boundaries_of(fitted.parameters), default_limit_w(rows, scales), timed)
    belief = _updated(belief, energies, joules)
    return _law_of(fitted, belief, scales, rows)


def belief_of(fitted: FittedLaw, model: str) -> Belief:
    """What the law knows, with corrections of this device model: its own, or those of any unmeasured one."""
    names = list(fitted.parameters)[: len(fitted.covariance)]
    mean = np.log([fitted.parameters[name] for name in names])
    belief = Belief(tuple(names), mean, fitted.covariance)
    corrections = [(target, c) for target, used in CORRECTIONS.items() for c in used]
    for target, correction in corrections:
        general, own = (f"{target}.{correction.name}[{each}]" for each in (UNMEASURED, model))
        if general in names and own not in names:
            belief = _with_own(belief, general, own, float(np.log(correction.factor)))
    return belief


def names_of(layout: Layout) -> list[str]:
    """The parameters that a layout's coefficients are."""
    return [f"{c.target}.{c.name}" for c in layout.coefficients]


def _with_own(belief: Belief, general: str, own: str, doubt: float) -> Belief:
    """A further device's correction: expected as the general one, and as far from it as any device from another."""
    g = belief.names.index(general)
    row = belief.covariance[g].copy()
    variance = row[g]
    row[g] = variance - doubt**2  # what the two have in common: the mean over the devices measured
    covariance = np.block([[belief.covariance, row[:, None]], [row[None, :], np.array([[variance]])]])
    return Belief((*belief.names, own), np.append(belief.mean, belief.mean[g]), covariance)


def _updated(belief: Belief, layout: Layout, measured: Array) -> Belief:
    """The belief after these measurements, whose log residuals are as large as those of fits at first (NOISE)."""
    at = belief.at(names_of(layout))
    mean, covariance = belief.mean[at], belief.covariance[np.ix_(at, at)]
    precision: Array = np.linalg.inv(covariance + 1e-9 * np.eye(len(at))).astype(np.float64)
    target = np.log(measured)

    def residuals(logs: Array) -> tuple[Array, Array]:
        forecast, slope = layout.log_and_slope(logs)
        return forecast - target, slope

    # No bounds: they hold before corrections are anchored, and the belief knows of them.
    anywhere = np.full(len(at), np.inf)
    minimum = minimise(Problem(residuals, NOISE, mean, precision, -anywhere, anywhere), mean)
    found = minimum.u
    missed, slope = residuals(found)
    slope = slope * np.sqrt(weights(missed, NOISE))[:, None]
    # Gain of a Kalman update: how everything else moves with what was observed.
    reach = belief.covariance[:, at]
    moved = belief.mean + reach @ precision @ (found - mean)
    moved[at] = found
    gain = np.linalg.solve(slope @ covariance @ slope.T + NOISE**2 * np.eye(len(measured)), slope @ reach.T)
    covariance_after = belief.covariance - reach @ slope.T @ gain
    return Belief(belief.names, moved, covariance_after, belief.settled and minimum.settled)


def _law_of(fitted: FittedLaw, belief: Belief, scales: dict[str, float], rows: Rows) -> FittedLaw:
    parameters = {name: float(value) for name, value in zip(belief.names, np.exp(belief.mean), strict=True)} | scales
    model, taken_up = str(rows.table["gpu_model"].iloc[0]), content_hash(rows.table)
    note = f"calibrated for {model} on {len(rows)} trials of {len(set(rows.cases))} cases"
    stopped = () if belief.settled else (unsettled(f"calibration for {model}"),)
    drawn = np.random.default_rng(0).multivariate_normal(belief.mean, belief.covariance, DRAWS, method="eigh")
    draws = [dict(zip(belief.names, map(float, np.exp(draw)), strict=True)) | scales for draw in drawn]
    found = fitted.law.coefficients(Estimate(parameters), draws, rows)
    names = {(c.target, c.name) for c in found}
    return replace(
        fitted,
        parameters=parameters,
        coefficients=(*found, *(c for c in fitted.coefficients if (c.target, c.name) not in names)),
        covariance=belief.covariance,
        provenance=_provenance(fitted.provenance, rows),
        calibrated=tuple(sorted({*fitted.calibrated, model})),
        notes=(*_notes_that_hold(fitted), note, *stopped),
        history=(*fitted.history, Event.now("calibrated", (model,), len(rows), len(set(rows.cases)), taken_up)),
    )


def _notes_that_hold(fitted: FittedLaw) -> tuple[str, ...]:
    """The law's notes, but those of a law of no trial: that there is none is no longer true."""
    return fitted.notes if fitted.provenance.n_trials else (ASSUMED,)


def _provenance(before: Provenance, rows: Rows) -> Provenance:
    ranges = joined(before.ranges, ranges_of(rows.sized))
    return replace(
        before,
        n_trials=before.n_trials + len(rows),
        n_cases=before.n_cases + len(set(rows.cases)),
        data_hash=f"{before.data_hash}+{content_hash(rows.table)}",
        meters=tuple(sorted({*before.meters, *meters_of(rows.table)})),
        ranges=ranges,
    )


def _check(fitted: FittedLaw, table: pd.DataFrame) -> None:
    if content_hash(table) in fitted.provenance.data_hash.split("+"):
        what = "the law has taken up these trials before: they would count twice"
        raise InputError(what, where="table", remedy="calibrate on further trials")
    if not isinstance(fitted.law, Roofline):
        what = f"the law {fitted.law.name} has no corrections by device"
        raise InputError(what, where="law", remedy="calibrate a roofline law")
    other = sorted(set(table["boundary"].astype(str)) - set(fitted.provenance.boundaries))
    if other:
        what = f"boundary {other[0]!r} is none of those that the law was fitted on"
        remedy = f"measure {', '.join(fitted.provenance.boundaries)}, or fit a law on trials of that boundary"
        raise InputError(what, where="table, column boundary", remedy=remedy)
