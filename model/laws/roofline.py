"""Our law: time is a smooth maximum of what overlaps plus what does not; energy is a sum, as it never overlaps.

Seconds of a micro-step:  T = (D^p + H^p)^(1/p) + (G^p + I^p)^(1/p) + X, with
  D = ((W + fill_rows W_row) / (eta_flop peak) or Q_products / (eta_bandwidth bandwidth), whichever smoothly is larger)
      + (passes Q_elementwise + Q_optimizer) / (eta_bandwidth bandwidth)             the device, kernel after kernel
  H = kernels kernel_s + micro_step_s + step_s / k + layers (step_launches kernel_s / k + sharding_s)        the host
  G = group_s, I = tokens of the node input_token_s      waiting for the slowest rank, and for the node's input
  X = (sent + staging message) / (eta_link link) + collectives collective_s          the link
and p = 1 + overlap; eta_flop_reduced stands for tf32, fp16 and bf16, whose peaks are other units'; k micro-steps a
step. A power limit below the device's default slows D (`model.power_cap`). Joules of a run of M micro-steps:
  E = sum over devices of [P_static T + e_flop W + e_byte Q + e_link X + e_kernel kernels + P_boost load^1.5 T] M
      + host_w T M,
with P_static = kappa_static limit, e_flop = kappa_flop limit / peak, e_byte = kappa_byte limit / bandwidth,
e_link = kappa_link limit / link and e_kernel = kappa_kernel_s limit (however small, a kernel wakes the device for some
microseconds: launch-bound trials show it). P_boost = kappa_boost limit is what higher clocks and voltage cost under
load, the share of T that a device works (a collective counted half). host_w is fitted per boundary and is 0 where it is
the device alone.

The coefficients are shared by all devices: one that was never measured gets its own from its data sheet. Where the
rows hold several device models, each has corrections beside (`roofline_terms.CORRECTIONS`), expected near 1: a few
trials on a new device model settle its own.

Sources: Williams, Waterman and Patterson 2009 (roofline); Choi, Bedard, Fowler and Vuduc 2013 (energy roofline).
Left out: contention between ranks for the host, overlap of communication with compute.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.linalg import block_diag

from joulelaw import __version__
from joulelaw.model.fitting import PositiveFit, fit_positive, priors
from joulelaw.model.hardware import Catalogue
from joulelaw.model.identifiability import doubt_of, identifiability
from joulelaw.model.intervals import Z
from joulelaw.model.laws.base import Coefficient, Estimate, FittedLaw, Forecast, Parameters, Provenance, Rows
from joulelaw.model.laws.roofline_anchor import Anchor
from joulelaw.model.laws.roofline_devices import device_coefficients
from joulelaw.model.laws.roofline_features import BOOST_POWER
from joulelaw.model.laws.roofline_forms import Layout, duration_layout, energy_layout, loaded, timed_by
from joulelaw.model.laws.roofline_power import default_limit_w, power_scales, remarks
from joulelaw.model.laws.roofline_resamples import resamples
from joulelaw.model.laws.roofline_seconds import settled_s
from joulelaw.model.laws.roofline_sharpness import sharpness
from joulelaw.model.laws.roofline_terms import CORRECTIONS, DURATION, ENERGY, HOST, UNMEASURED
from joulelaw.model.laws.roofline_verdicts import held_by_bounds, reported
from joulelaw.model.levenberg import DONE, unsettled

Array = npt.NDArray[np.float64]
# Of many rows the best of several starts is chosen on so many, drawn at random.
START_ROWS = 1000

# A draw of the bootstrap is found to a few hundredths of what it scatters by; nearer would take twice the time.
DRAWN = 1e-4


@dataclass(frozen=True)
class Roofline:
    """The default law; its forecasts are pre-run."""

    name: str = "roofline"
    post_run: bool = False
    logarithmic: bool = True

    @property
    def parameter_names(self) -> tuple[Sequence[str], Sequence[str]]:
        corrections = [f"{target}.{c.name}[" for target, used in CORRECTIONS.items() for c in used]
        hosts = [f"energy.{c.name}" for c in HOST.values()]
        return [f"{c.target}.{c.name}" for c in (*DURATION, *ENERGY)], [*hosts, *corrections, "energy.power_scale_w["]

    def fit(self, rows: Rows, *, seed: int = 0, start: Parameters | None = None, resampled: bool = False) -> Estimate:
        """Duration first; then energy on the durations, measured so far as joules follow them (`roofline_seconds`)."""
        rng = np.random.default_rng(seed) if resampled else None
        micro_steps = rows.column("micro_steps")
        seconds, joules = (rows.column(name) / micro_steps for name in ("duration_s", "energy_j"))
        measured_models = corrected_models(start) if start is not None and resampled else []
        models = sorted({*rows.table["gpu_model"].unique(), *measured_models} - {UNMEASURED})
        boundaries = sorted(set(rows.table["boundary"].astype(str))) if start is None else boundaries_of(start)
        scales = power_scales(rows, start if resampled else None)
        refit, known = start is not None, start
        if start is None and len(rows) > 4 * START_ROWS:
            some = np.random.default_rng(seed).permutation(len(rows))[:START_ROWS]
            known = self.fit(rows.take(some), seed=seed).parameters

        layout = duration_layout(rows, models)
        alike = np.ones(len(rows))
        time = _solve(layout, seconds, alike, seed, known, rng)
        duration = _found(layout, time, seconds, alike, rows, refit)

        def energies_at(measured_s: Array | None) -> Layout:
            timed = timed_by(layout, time.logs, measured_s)
            return energy_layout(rows, models, boundaries, default_limit_w(rows, scales), timed)

        plain, full = energies_at(None), energies_at(seconds)
        sharp = sharpness(rows)
        near = _solve(plain, joules, sharp, seed, known, None).logs if start is None else _near(plain, start)
        settled = settled_s(layout.value(time.logs), seconds, joules, plain.value(near), full.value(near))
        energies = energies_at(settled)
        energy = _solve(energies, joules, sharp, seed, known, rng)
        whole = _together([duration, _found(energies, energy, joules, sharp, rows, refit)])
        return replace(whole, parameters=whole.parameters | scales, notes=(*remarks(scales), *whole.notes))

    def resamples(self, rows: Rows, estimate: Estimate, draws: int, seed: int) -> Iterator[Rows]:
        """The same trials with other residuals (`roofline_resamples`)."""
        found = estimate.parameters
        time, energy, _ = layouts(found, rows, measured_models(found))
        known = {"duration": (time, time.logs(found)), "energy": (energy, energy.logs(found))}
        return resamples(rows, self.forecast(found, rows.pre_run()), known, draws, seed)

    def forecast(self, parameters: Parameters, rows: Rows) -> Forecast:
        """Seconds from counts, then joules from counts and those seconds. No measured column is looked at.

        Energy is nan for a device without a power limit that the fit did not have either.
        """
        _, energy, micro_step_s = layouts(parameters, rows)
        joules = energy.value(energy.logs(parameters))
        micro_steps = rows.column("micro_steps")
        return Forecast(duration_s=micro_step_s * micro_steps, energy_j=joules * micro_steps)

    def slopes(self, parameters: Parameters, rows: Rows) -> tuple[Sequence[str], dict[str, Array]]:
        """Of the log forecasts in the logarithms of the parameters; energy's through the duration it is given, too."""
        time, energy, _ = layouts(parameters, rows)
        _, seconds = time.log_and_slope(time.logs(parameters))
        _, joules = energy.log_and_slope(energy.logs(parameters))
        names = [f"{c.target}.{c.name}" for c in (*time.coefficients, *energy.coefficients)]
        return names, {
            "duration": np.hstack([seconds, np.zeros_like(joules)]),
            "energy": np.hstack([_through_time(time, energy, parameters, seconds), joules]),
        }

    def coefficients(self, estimate: Estimate, draws: list[dict[str, float]], rows: Rows) -> tuple[Coefficient, ...]:
        """Shared coefficients and corrections with intervals from the draws; then those of each device."""
        found = estimate.parameters
        models = measured_models(found)
        time, energy, _ = layouts(found, rows, models)
        shared = (*reported(time, found, draws), *reported(energy, found, draws))
        # Corrections tell one device from another: of one alone there is nothing to report.
        shared = tuple(c for c in shared if len(models) != 1 or "[" + models[0] not in c.name)
        held = held_by_bounds(time, draws) | held_by_bounds(energy, draws)
        return shared + device_coefficients(found, draws, rows, default_limit_w(rows, found), held)


def a_priori(catalogue: Catalogue | None = None) -> FittedLaw:
    """The law without one measurement: every coefficient is its prior, and forecasts are as wide as that guess.

    For the devices alone (boundary gpu). Energy is nan for devices without a power limit.
    """
    coefficients = (*DURATION, *ENERGY)
    _, spread = priors(coefficients)
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


def with_corrections(law: FittedLaw) -> FittedLaw:
    """The law a priori with corrections of any device, as a fitted one has them: 1, and as unsure as expected.

    So two devices are each off in their own way, and one of them can be calibrated.
    """
    doubts = {
        f"{target}.{c.name}[{UNMEASURED}]": float(np.log(c.factor))
        for target, used in CORRECTIONS.items()
        for c in used
        if any(f"{target}.{name}" in law.parameters for name in c.moves)
    }
    own = np.diag(np.array(list(doubts.values())) ** 2)
    return replace(
        law,
        parameters={**law.parameters, **dict.fromkeys(doubts, 1.0)},
        covariance=np.asarray(block_diag(law.covariance, own)),
    )


def _through_time(time: Layout, energy: Layout, parameters: Parameters, seconds: Array) -> Array:
    """Slopes of the log energy in the duration's coefficients: through time, load and elementwise passes."""
    logs = energy.logs(parameters)
    whole = energy.value(logs)

    def share(block: str) -> Array:
        value = energy.values(lambda terms, own, slopes: terms.part(block, own, slopes), logs)
        return np.asarray((value / whole)[:, None])

    _, load = time.log_and_slope(time.logs(parameters), loaded)
    boost = seconds + BOOST_POWER * (load - seconds)
    passes = np.array([c.name == "elementwise_passes" for c in time.coefficients], dtype=float)
    return np.asarray(share("static") * seconds + share("boost") * boost + share("elementwise") * passes)


def layouts(parameters: Parameters, rows: Rows, corrected: Sequence[str] | None = None) -> tuple[Layout, Layout, Array]:
    """The formulas of time and energy for these rows, and the seconds of a micro-step that the second is given."""
    models = corrected_models(parameters) if corrected is None else corrected
    time = duration_layout(rows, models)
    timed = timed_by(time, time.logs(parameters))
    energy = energy_layout(rows, models, boundaries_of(parameters), default_limit_w(rows, parameters), timed)
    return time, energy, timed.micro_step_s


def corrected_models(parameters: Parameters) -> list[str]:
    """The device models that have corrections of their own."""
    prefix = f"duration.{CORRECTIONS['duration'][0].name}["
    return [name.removeprefix(prefix)[:-1] for name in parameters if name.startswith(prefix)]


def measured_models(parameters: Parameters) -> list[str]:
    """The device models among them that the fit had rows of."""
    return [model for model in corrected_models(parameters) if model != UNMEASURED]


def boundaries_of(parameters: Parameters) -> list[str]:
    """The boundaries with a power of the host."""
    return [boundary for boundary, host in HOST.items() if f"energy.{host.name}" in parameters]


def _solve(
    layout: Layout, measured: Array, sharp: Array, seed: int, start: Parameters | None, rng: np.random.Generator | None
) -> PositiveFit:
    def residuals(logs: Array) -> tuple[Array, Array]:
        return _missed(layout, logs, measured, sharp)

    near, centre = None, None
    if start is not None:
        near = _near(layout, start)
    if rng is not None:
        expected, spread = priors(layout.coefficients)
        centre = np.clip(rng.normal(expected, spread), *np.array([c.log_bounds for c in layout.coefficients]).T)
    done = DONE if rng is None else DRAWN
    return fit_positive(layout.coefficients, residuals, start=near, centre=centre, done=done, seed=seed)


def _missed(layout: Layout, logs: Array, measured: Array, sharp: Array) -> tuple[Array, Array]:
    """The log residuals and their slopes, each row's as far as it counts."""
    forecast, slope = layout.log_and_slope(logs)
    return (forecast - np.log(measured)) * sharp, slope * sharp[:, None]


def _near(layout: Layout, start: Parameters) -> Array:
    """The start's logarithms, and the prior's where it has none."""
    return layout.logs({f"{c.target}.{c.name}": c.prior for c in layout.coefficients} | dict(start))


def _found(layout: Layout, fit: PositiveFit, measured: Array, sharp: Array, rows: Rows, refit: bool) -> Estimate:
    """The anchored parameters of one target; unless of a refit, with their covariance and what rows tell."""
    matrix = Anchor.of(layout)
    if refit:
        return Estimate(matrix.parameters(fit.logs), settled=fit.settled)
    missed, slope = _missed(layout, fit.logs, measured, sharp)
    doubt = doubt_of(fit, layout.coefficients, slope, missed, rows.cases)
    covariance, prior = matrix.covariance(doubt.covariance), matrix.covariance(np.diag(doubt.spread**2))
    measured_only = len(matrix.names) - len(matrix.unmeasured)
    known = identifiability(layout.coefficients, fit, doubt, matrix.names[:measured_only], covariance, prior)
    stopped = () if fit.settled else (unsettled(layout.coefficients[0].target),)
    return Estimate(matrix.parameters(fit.logs), (str(known), *stopped), covariance, fit.settled)


def _together(estimates: Sequence[Estimate]) -> Estimate:
    """The estimates of the two targets as one; their errors are taken to be independent."""
    duration, energy = estimates
    covariance = np.zeros((0, 0))
    if duration.covariance.size:
        covariance = block_diag(duration.covariance, energy.covariance)
    notes = (*duration.notes, *energy.notes)
    settled = duration.settled and energy.settled
    return Estimate(duration.parameters | energy.parameters, notes, covariance, settled)
