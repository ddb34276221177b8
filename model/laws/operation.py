"""P2's law: each operation's efficiency gives its seconds, and energy is linear in them: E = e0 + sum e_i t_i.

t_i = micro_steps x passes x calls x c_i / (v_max h_i(c_i)), with c_i the FLOPs of a call, h_i the efficiency curve
through timings of that operation alone on the same device and precision, and three passes: forward, and backward as
two (four where activation checkpointing runs the forward pass again). Fitted on relative residuals, as trials differ
by decades, with non-negative e_i, which are watts. The same form on seconds is our addition: duration = d0 + sum
d_i t_i, where a d_i above 1 stands for the work around the operation that the paper does not decompose.

Source: M. Zoubeirou a Mayaki and V. Charpenay, ECAI 2025, DOI 10.3233/FAIA250900. Left out, by design of the form: what
is no operation of it (feed-forward layers, embeddings, head, optimizer), idle power, and communication: trials on
several devices are neither fitted nor forecast. The coefficients are shared by all devices, as the paper pools them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from joulelaw import InputError
from joulelaw.model.columns import codes, flags
from joulelaw.model.efficiency_curves import Curve
from joulelaw.model.intervals import TARGETS, Z
from joulelaw.model.laws.base import Coefficient, Estimate, Forecast, Parameters, Rows, case_resamples
from joulelaw.model.operation_energy import fit_linear
from joulelaw.model.operation_timings import Curves, Key, forward_seconds
from joulelaw.model.operations import FLOP, network_of

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
COLUMNS = {"duration": "duration_s", "energy": "energy_j"}
UNITS = {"duration": ("s", "1"), "energy": ("J", "W")}
CURVE = ("h_max", "k", "a", "c_low", "c_high")  # c_low and c_high: the sizes timed, TFLOP
REMEDY = "measure operations alone, or import their timings, so that the data set has a folder operations"


@dataclass(frozen=True)
class Operation:
    """P2's law; its forecasts are pre-run, given timings of operations on the same device."""

    name: str = "operation"
    post_run: bool = False
    logarithmic: bool = False

    @property
    def parameter_names(self) -> tuple[Sequence[str], Sequence[str]]:
        return (), ["curve[", *(f"{target}.{name}[" for target in TARGETS for name in ("constant", "operation"))]

    def fit(self, rows: Rows, *, seed: int = 0, start: Parameters | None = None, resampled: bool = False) -> Estimate:
        """Curves from the rows' timings (or those of `start`), then non-negative least squares for each network."""
        if start is None and rows.operations is None:
            raise InputError("there are no timings of operations", where=f"law {self.name}", remedy=REMEDY)
        curves = _curves(start) if start is not None else rows.operations.curves if rows.operations else {}
        one_device = rows.column("gpu_count") == 1
        notes = [f"{n} trials on several devices left out: no communication term"] if (n := (~one_device).sum()) else []
        rows = rows.take(one_device)
        if not len(rows):
            raise InputError("every trial is on several devices", where=f"law {self.name}", remedy="add single devices")
        # A draw may lack a network, whose coefficients then stay; a fold that lacks one must not know it.
        parameters = dict(start or {} if resampled else {}) | _parameters(curves)
        for network, part in _networks(rows):
            times, outside = _seconds(network, part, curves)
            if start is None and len(part) <= times.shape[1]:
                what = f"{len(part)} trials cannot fix {times.shape[1] + 1} coefficients of {network} operations"
                raise InputError(what, where=f"law {self.name}", remedy="run more configurations")
            for target, column in COLUMNS.items():
                fitted = fit_linear(times, part.column(column), relative=True)
                values = (fitted.intercept, *map(float, fitted.slopes))
                parameters |= dict(zip(_linear(target, network), values, strict=True))
            if outside.any():
                notes.append(f"{outside.sum()} {network} trials have operations of sizes outside those timed")
        return Estimate(parameters, tuple(notes) + (_remarks(rows) if start is None else ()))

    def resamples(self, rows: Rows, estimate: Estimate, draws: int, seed: int) -> Iterator[Rows]:
        return case_resamples(rows, draws, seed)

    def forecast(self, parameters: Parameters, rows: Rows) -> Forecast:
        """nan for several devices, which `outside` says. Raises InputError for a device or network not fitted."""
        values = {target: np.full(len(rows), np.nan) for target in TARGETS}
        words = np.full(len(rows), "several devices: no forecast", dtype=object)
        for network, at, times, outside in _parts(parameters, rows):
            words[at] = np.where(outside, "operations of sizes not timed", "")
            for target in TARGETS:
                constant, *slopes = (parameters[name] for name in _linear(target, network))
                values[target][at] = constant + times @ slopes
        return Forecast(duration_s=values["duration"], energy_j=values["energy"], outside=words)

    def slopes(self, parameters: Parameters, rows: Rows) -> tuple[Sequence[str], dict[str, Array]]:
        """In the linear coefficients: of log E in e_i, t_i / E. The timings are not redrawn, so curves have no part."""
        names = [name for name in parameters if not name.startswith("curve[")]
        forecast = self.forecast(parameters, rows)
        value = {"duration": forecast.duration_s, "energy": forecast.energy_j}
        slopes = {target: np.zeros((len(rows), len(names))) for target in TARGETS}
        for network, at, times, _ in _parts(parameters, rows):
            for target in TARGETS:
                columns = np.array([names.index(name) for name in _linear(target, network)])
                slopes[target][np.ix_(at, columns)] = np.insert(times, 0, 1.0, axis=1) / value[target][at, None]
        return names, slopes

    def coefficients(self, estimate: Estimate, draws: list[dict[str, float]], rows: Rows) -> tuple[Coefficient, ...]:
        """Linear coefficients with percentile intervals of the draws; curves with their least squares' errors."""
        linear = [name for name in estimate.parameters if not name.startswith("curve[")]
        curves = rows.operations.curves if rows.operations else _curves(estimate.parameters)
        own = [_coefficient(name, estimate.parameters[name], draws) for name in linear]
        return (*own, *(each for key, curve in curves.items() for each in _curve_coefficients(key, curve)))


def _linear(target: str, network: str) -> list[str]:
    """The parameters of a network's linear law: its constant, then its operations' in order."""
    return [f"{target}.constant[{network}]", *(f"{target}.operation[{network}.{name}]" for name in FLOP[network])]


def _parts(parameters: Parameters, rows: Rows) -> Iterator[tuple[str, npt.NDArray[np.intp], Array, Mask]]:
    """Of the rows on one device: each fitted network, its rows' positions, their operations' seconds, and `outside`."""
    curves = _curves(parameters)
    alone = np.flatnonzero(rows.column("gpu_count") == 1)
    known = rows if len(alone) == len(rows) else rows.take(alone)
    networks = _network_of_each(known)
    for network, part in _networks(known):
        if f"energy.constant[{network}]" not in parameters:
            what = f"the law was fitted on no {network}"
            raise InputError(what, where="model_family", remedy="fit it on such trials too")
        times, outside = _seconds(network, part, curves)
        yield network, alone[networks == network], times, outside


def _networks(rows: Rows) -> Iterator[tuple[str, Rows]]:
    """The rows of each network, in order of its name."""
    networks = _network_of_each(rows)
    names = np.unique(networks)
    for network in names:
        yield str(network), rows if len(names) == 1 else rows.take(networks == network)


def _network_of_each(rows: Rows) -> npt.NDArray[np.str_]:
    families, code = codes(rows.table, "model_family")
    return np.array([network_of(family) for family in families], dtype=str)[code]


def _seconds(network: str, rows: Rows, curves: Curves) -> tuple[Array, Mask]:
    """Seconds of each operation in the whole run (rows x operations), and which rows lie outside the sizes timed."""
    forward, outside = forward_seconds(network, rows.table, rows.column("peak_flop_per_s"), curves)
    passes = np.where(flags(rows.table, "activation_checkpointing"), 4, 3)
    return forward * (passes * rows.column("micro_steps"))[:, None], outside


def _parameters(curves: Curves) -> dict[str, float]:
    return {f"curve[{'|'.join(key)}].{n}": float(getattr(curve, n)) for key, curve in curves.items() for n in CURVE}


def _curves(parameters: Parameters) -> dict[Key, Curve]:
    """The curves that a law's parameters hold."""
    texts = [name.removeprefix("curve[").removesuffix("].h_max") for name in parameters if name.endswith("].h_max")]
    return {Key(*t.split("|")): _curve(*(parameters[f"curve[{t}].{n}"] for n in CURVE)) for t in texts}


def _curve(h_max: float, k: float, a: float, c_low: float, c_high: float) -> Curve:
    return Curve(h_max, k, a, c_low, c_high)


def _remarks(rows: Rows) -> tuple[str, ...]:
    if rows.operations is None:
        return ()
    curves = rows.operations.curves
    stuck = [
        f"curve of {' '.join(key)}: {' and '.join(c.at_bound)} at a bound" for key, c in curves.items() if c.at_bound
    ]
    others = rows.operations.without_term
    return (*stuck, *([f"timings without a term in this law left out: {', '.join(others)}"] if others else []))


def _coefficient(parameter: str, value: float, draws: list[dict[str, float]]) -> Coefficient:
    target, _, name = parameter.partition(".")
    constant = name.startswith("constant")
    unit = UNITS[target][0 if constant else 1]
    spent = "watts while the operation runs" if target == "energy" else "seconds of the run per second of the operation"
    low = high = float("nan")
    stuck = 0.0
    if draws:
        drawn = np.array([draw[parameter] for draw in draws])
        low, high = (float(limit) for limit in np.quantile(drawn, [0.025, 0.975]))
        stuck = float(np.mean(drawn <= 0))
    known = bool(draws) and 0 < value / 2 <= low and high <= 2 * value and stuck < 0.05
    meaning = f"{'joules' if target == 'energy' else 'seconds'} of any run" if constant else spent
    return Coefficient(target, name, value, low, high, unit, meaning, value <= 0, known)


def _curve_coefficients(key: Key, curve: Curve) -> Iterator[Coefficient]:
    """Intervals are those of the logarithms, as all three are positive."""
    height, log_k, a = curve.errors
    name = f"{key.network}.{key.operation}[{key.gpu_model}, {key.precision}]"
    for what, value, error, unit, meaning in (
        ("h_max", curve.h_max, height / curve.h_max, "%", "efficiency of large calls"),
        ("k", curve.k, log_k, "TFLOP^-a", "rise with size"),
        ("a", curve.a, a / curve.a, "1", "exponent of the size"),
    ):
        factor = float(np.exp(min(Z * error, 300.0)))
        stuck = what in curve.at_bound
        known = factor <= 2 and not stuck
        yield Coefficient("curve", f"{name}.{what}", value, value / factor, value * factor, unit, meaning, stuck, known)
