"""Our law: time is a smooth maximum of what overlaps plus what does not; energy is a sum, as it never overlaps.

Seconds of a micro-step:  T = (A^p + B^p + H^p)^(1/p) + S, with
  A = W / (eta_flop peak)    arithmetic; eta_flop_reduced for tf32, fp16 and bf16, whose peaks are other units'
  B = (Q_gemm + passes Q_elementwise) / (eta_bandwidth bandwidth)    memory traffic
  H = kernels kernel_s + micro_step_s + layers sharding_s            the host, which launches and shards
  S = X / (eta_link link) + collectives collective_s + group_s + the optimizer step's share
and p = 1 + overlap. Joules of a run of M micro-steps:
  E = sum over devices of [P_static T + e_flop W + e_byte Q + e_link X + e_kernel kernels] M + host_w T M,
with P_static = kappa_static limit, e_flop = kappa_flop limit / peak, e_byte = kappa_byte limit / bandwidth,
e_link = kappa_link limit / link and e_kernel = kappa_kernel_s limit (however small, a kernel wakes the device for some
microseconds: launch-bound trials show it). The kappas are shared by all devices: a device that was never measured gets
its coefficients from its data sheet. host_w is fitted per boundary and is 0 where the boundary is the device alone.

Sources: Williams, Waterman and Patterson 2009 (roofline); Choi, Bedard, Fowler and Vuduc 2013 (energy roofline).
Left out: power caps that throttle, contention between ranks for the host, overlap of communication with compute.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from joulelaw import __version__
from joulelaw.model.fitting import Positive, Residuals, fit_positive
from joulelaw.model.hardware import Catalogue
from joulelaw.model.intervals import Z
from joulelaw.model.laws.base import Coefficient, Estimate, FittedLaw, Forecast, Parameters, Provenance, Rows
from joulelaw.model.laws.roofline_devices import device_coefficients
from joulelaw.model.laws.roofline_terms import (
    DURATION,
    DURATION_TERMS,
    ENERGY,
    ENERGY_TERMS,
    HOST,
    OVERLAPPING,
    Terms,
    energy_features,
    time_features,
)

Array = npt.NDArray[np.float64]
DURATION_NAMES = tuple(c.name for c in DURATION)
SCALE = "energy.power_scale_w[{}]"


@dataclass(frozen=True)
class Roofline:
    """The default law; its forecasts are pre-run."""

    name: str = "roofline"
    post_run: bool = False
    logarithmic: bool = True

    @property
    def parameter_names(self) -> tuple[Sequence[str], Sequence[str]]:
        return [f"{c.target}.{c.name}" for c in (*DURATION, *ENERGY)], [
            *(f"energy.{c.name}" for c in HOST.values()),
            SCALE[:-3],
        ]

    def fit(self, rows: Rows, *, seed: int = 0, start: Parameters | None = None, resampled: bool = False) -> Estimate:
        """Duration first; then energy on the measured durations, so that its coefficients are those of energy alone."""
        rng = np.random.default_rng(seed) if resampled else None
        micro_steps = rows.column("micro_steps")
        terms = Terms.of(DURATION_TERMS, time_features(rows), DURATION_NAMES)
        seconds = np.log(rows.column("duration_s") / micro_steps)

        def duration_residuals(logs: Array) -> tuple[Array, Array]:
            value, slope = smooth_maximum(terms, logs)
            return np.log(value) - seconds, slope

        parameters = _solve(DURATION, duration_residuals, seed, start, rng)
        energy = energy_coefficients(rows, start)
        scales = _power_scales(rows, start)
        limit_w = _limit_w(rows, scales)
        features = energy_features(rows, limit_w, np.exp(seconds), parameters["duration.elementwise_passes"])
        joules_terms = Terms.of(ENERGY_TERMS, features, [c.name for c in energy])
        joules = np.log(rows.column("energy_j") / micro_steps)

        def energy_residuals(logs: Array) -> tuple[Array, Array]:
            values = joules_terms.values(logs)
            total = values.sum(axis=1)
            return np.log(total) - joules, values @ joules_terms.powers / total[:, None]

        parameters |= _solve(energy, energy_residuals, seed, start, rng)
        return Estimate(parameters | scales, tuple(_remarks(scales)))

    def forecast(self, parameters: Parameters, rows: Rows) -> Forecast:
        """Seconds from counts, then joules from counts and those seconds. No measured column is looked at.

        Energy is nan for a device without a power limit that the fit did not have either.
        """
        terms = Terms.of(DURATION_TERMS, time_features(rows), DURATION_NAMES)
        micro_step_s, _ = smooth_maximum(terms, _logs(DURATION, parameters))
        limit_w = _limit_w(rows, parameters)
        passes = parameters["duration.elementwise_passes"]
        energy = energy_coefficients(rows, parameters)
        features = energy_features(rows, limit_w, micro_step_s, passes)
        sums = Terms.of(ENERGY_TERMS, features, [c.name for c in energy])
        joules = sums.values(_logs(energy, parameters)).sum(axis=1)
        micro_steps = rows.column("micro_steps")
        return Forecast(duration_s=micro_step_s * micro_steps, energy_j=joules * micro_steps)

    def coefficients(self, estimate: Estimate, draws: list[dict[str, float]], rows: Rows) -> tuple[Coefficient, ...]:
        """Shared coefficients with percentile intervals of the draws; then those of each device, which follow."""
        shared = (*DURATION, *energy_coefficients(rows, estimate.parameters))
        own = tuple(_coefficient(c, estimate.parameters, draws) for c in shared)
        return own + device_coefficients(own, rows, _limit_w(rows, estimate.parameters))


def a_priori(catalogue: Catalogue | None = None) -> FittedLaw:
    """The law without one measurement: every coefficient is its prior, and forecasts are as wide as that guess.

    For the devices alone (boundary gpu). Energy is nan for devices without a power limit.
    """
    coefficients = (*DURATION, *ENERGY)
    spread = np.log([c.factor for c in coefficients])
    reach = np.exp(Z * spread)
    own = tuple(
        Coefficient(c.target, c.name, c.prior, c.prior / r, c.prior * r, c.unit, c.meaning, identified=False)
        for c, r in zip(coefficients, reach, strict=True)
    )
    return FittedLaw(
        law=Roofline(),
        parameters={f"{c.target}.{c.name}": c.prior for c in coefficients},
        coefficients=own,
        provenance=Provenance(0, 0, "", (), ("gpu",), {}, f"joulelaw {__version__}"),
        catalogue=catalogue or Catalogue.load(),
        covariance=np.diag(spread**2),
        notes=("nothing was fitted: every coefficient is what is assumed of ordinary hardware",),
    )


def smooth_maximum(terms: Terms, logs: Array) -> tuple[Array, Array]:
    """Seconds of a micro-step, and the slope of their logarithm in the logarithms of the duration's coefficients."""
    values = terms.values(logs)
    blocks = [terms.block(name) for name in OVERLAPPING]
    totals = np.column_stack([values[:, block].sum(axis=1) for block in blocks])
    overlap = float(np.exp(logs[DURATION_NAMES.index("overlap")]))
    p = 1.0 + overlap
    largest = totals.max(axis=1, keepdims=True)
    scaled = totals / largest
    powered = scaled**p
    norm = powered.sum(axis=1, keepdims=True)
    maximum = largest * norm ** (1 / p)
    serial = values[:, terms.block("serial")].sum(axis=1)
    total = maximum[:, 0] + serial
    weights = np.ones_like(values)
    for j, block in enumerate(blocks):
        weights[:, block] = (totals[:, [j]] / maximum) ** (p - 1)
    slope = (values * weights) @ terms.powers
    with np.errstate(divide="ignore", invalid="ignore"):
        entropy = np.where(scaled > 0, powered * np.log(scaled), 0.0).sum(axis=1) / norm[:, 0]
    by_p = maximum[:, 0] * (entropy / p - np.log(norm[:, 0]) / p**2)
    slope[:, DURATION_NAMES.index("overlap")] += by_p * overlap
    return total, slope / total[:, None]


def energy_coefficients(rows: Rows, known: Parameters | None) -> tuple[Positive, ...]:
    """The energy's coefficients: those of a known fit, otherwise those that the rows' boundaries call for."""
    boundaries = set(rows.table["boundary"].astype(str))
    if known is None:
        return (*ENERGY, *(host for boundary, host in HOST.items() if boundary in boundaries))
    return (*ENERGY, *(host for host in HOST.values() if f"energy.{host.name}" in known))


def _solve(
    coefficients: Sequence[Positive],
    residuals: Residuals,
    seed: int,
    start: Parameters | None,
    rng: np.random.Generator | None,
) -> dict[str, float]:
    near = None if start is None else _logs(coefficients, start)
    centre = None
    if rng is not None:
        expected, spread = np.log([c.prior for c in coefficients]), np.log([c.factor for c in coefficients])
        centre = np.clip(rng.normal(expected, spread), *np.array([c.log_bounds for c in coefficients]).T)
    logs = fit_positive(coefficients, residuals, start=near, centre=centre, seed=seed)
    return {f"{c.target}.{c.name}": float(value) for c, value in zip(coefficients, np.exp(logs), strict=True)}


def _logs(coefficients: Sequence[Positive], parameters: Parameters) -> Array:
    return np.log([parameters[f"{c.target}.{c.name}"] for c in coefficients])


def _power_scales(rows: Rows, known: Parameters | None) -> dict[str, float]:
    """Watts that stand in for the power limit of devices that have none: the median that their trials drew."""
    prefix = SCALE.partition("[")[0]
    if known is not None:
        return {name: value for name, value in known.items() if name.startswith(prefix)}
    drawn = rows.column("energy_j") / rows.column("duration_s") / rows.column("gpu_count")
    unlimited = pd.Series(drawn)[np.isnan(rows.column("power_limit_w"))]
    medians = unlimited.groupby(rows.table["gpu_model"].iloc[unlimited.index]).median()
    return {SCALE.format(model): float(watts) for model, watts in medians.items()}


def _limit_w(rows: Rows, scales: Parameters) -> Array:
    own = rows.column("power_limit_w")
    stand_in = np.array([scales.get(SCALE.format(model), np.nan) for model in rows.table["gpu_model"]])
    return np.where(np.isnan(own), stand_in, own)


def _remarks(scales: Parameters) -> list[str]:
    return [
        f"{name.partition('[')[2][:-1]} has no power limit: {watts:.3g} W, the median its trials drew, stands in"
        for name, watts in scales.items()
    ]


def _coefficient(c: Positive, parameters: Parameters, draws: list[dict[str, float]]) -> Coefficient:
    """Called identified: its interval is within a factor 2, and fewer than 5 % of the draws are at a bound."""
    name = f"{c.target}.{c.name}"
    value, low, high, stuck = parameters[name], float("nan"), float("nan"), 0.0
    if draws:
        drawn = np.array([draw[name] for draw in draws])
        low, high = (float(limit) for limit in np.quantile(drawn, [0.025, 0.975]))
        stuck = float(np.mean([c.at_bound(float(v)) for v in drawn]))
    identified = bool(draws) and high <= 2 * value and low >= value / 2 and stuck < 0.05
    return Coefficient(c.target, c.name, value, low, high, c.unit, c.meaning, c.at_bound(value), identified)
