"""The roofline's two formulas, evaluated for rows of several device models, each with its own corrections."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from joulelaw.model.columns import codes, groups
from joulelaw.model.fitting import Positive
from joulelaw.model.laws.base import Rows, Target
from joulelaw.model.laws.roofline_features import Timed, energy_features, time_features
from joulelaw.model.laws.roofline_terms import (
    CORRECTIONS,
    DURATION,
    DURATION_TERMS,
    ENERGY,
    ENERGY_TERMS,
    HOST,
    UNMEASURED,
    Correction,
)
from joulelaw.model.laws.smooth import Part, Terms, smooth_maximum

Array = npt.NDArray[np.float64]
Formula = Callable[[Terms, Array, bool], Part]
ENERGY_BLOCKS = ("static", "work", "elementwise", "boost")


def micro_step(terms: Terms, logs: Array, slopes: bool = True) -> Part:
    """Seconds of a micro-step: what overlaps by smooth maxima, what does not by sums."""
    return micro_step_parts(terms, logs, slopes)[0]


def micro_step_parts(terms: Terms, logs: Array, slopes: bool = True) -> tuple[Part, Part, Part]:
    """The micro-step, and of it what the device works and what the link takes."""
    at = terms.names.index("overlap")
    overlap = float(np.exp(logs[at]))

    def block(name: str) -> Part:
        return terms.part(name, logs, slopes)

    # Products, by arithmetic or by their operands, and what only moves bytes.
    worked = smooth_maximum([block("arithmetic"), block("operands")], overlap, at) + block("traffic")
    launched = smooth_maximum([worked, block("host")], overlap, at)
    waited = smooth_maximum([block("group"), block("input")], overlap, at)
    linked = block("link")
    return launched + waited + linked, worked, linked


def loaded(terms: Terms, logs: Array, slopes: bool = True) -> Part:
    """Seconds of a micro-step that load the device: those it works, and half of those its links take."""
    _, worked, linked = micro_step_parts(terms, logs, slopes)
    return worked + linked.times(0.5)


def joules(terms: Terms, logs: Array, slopes: bool = True) -> Part:
    """Joules of a micro-step, of all devices: everything is added."""
    static, work, elementwise, boost = (terms.part(name, logs, slopes) for name in ENERGY_BLOCKS)
    return static + work + elementwise + boost


@dataclass(frozen=True)
class _Device:
    """The rows of one device model, and the columns of its corrections among the coefficients (none if it has none)."""

    rows: npt.NDArray[np.intp]
    terms: Terms
    columns: npt.NDArray[np.intp]


@dataclass(frozen=True)
class Layout:
    """Everything of a formula but the numbers: evaluate it for any logarithms of the coefficients."""

    coefficients: tuple[Positive, ...]
    formula: Formula
    devices: tuple[_Device, ...]
    moves: Array  # shared coefficients x corrections: 1 where the correction multiplies the coefficient
    shared: int

    def logs(self, parameters: Mapping[str, float]) -> Array:
        """The logarithms of the coefficients, in their order, from parameters by name."""
        return np.log([parameters[f"{c.target}.{c.name}"] for c in self.coefficients])

    def value(self, logs: Array) -> Array:
        """The quantity of each row."""
        return self.values(self.formula, logs)

    def values(self, formula: Formula, logs: Array) -> Array:
        """As `value`, of a part of the formula."""
        value = np.empty(sum(len(device.rows) for device in self.devices))
        for device in self.devices:
            value[device.rows] = formula(device.terms, self.own(device, logs), False).value
        return value

    def log_and_slope(self, logs: Array, formula: Formula | None = None) -> tuple[Array, Array]:
        """Its logarithm, and the slope of that in the logarithms of all coefficients (rows x coefficients)."""
        evaluate = formula or self.formula
        count = sum(len(device.rows) for device in self.devices)
        value, slope = np.empty(count), np.zeros((count, len(self.coefficients)))
        for device in self.devices:
            part = evaluate(device.terms, self.own(device, logs), True)
            assert part.slope is not None
            relative = part.slope / part.value[:, None]
            value[device.rows] = np.log(part.value)
            slope[device.rows, : self.shared] = relative
            if device.columns.size:
                slope[np.ix_(device.rows, device.columns)] = relative @ self.moves
        return value, slope

    def own(self, device: _Device, logs: Array) -> Array:
        """The logarithms of a device's own coefficients."""
        return logs[: self.shared] + (self.moves @ logs[device.columns] if device.columns.size else 0.0)


def duration_layout(rows: Rows, corrected: Sequence[str]) -> Layout:
    """Seconds of a micro-step of these rows; `corrected` are the device models with corrections of their own, among
    them perhaps UNMEASURED, whose corrections are those of all others."""
    names = [c.name for c in DURATION]
    terms = Terms.of(DURATION_TERMS, time_features(rows), names)
    return _layout(DURATION, CORRECTIONS["duration"], micro_step, terms, rows, corrected)


def energy_layout(
    rows: Rows,
    corrected: Sequence[str],
    boundaries: Sequence[str],
    limit_w: Array,
    timed: Timed,
) -> Layout:
    """Joules of a micro-step of these rows, given what is to be known of its time."""
    shared = (*ENERGY, *(host for boundary, host in HOST.items() if boundary in boundaries))
    features = energy_features(rows, limit_w, timed)
    terms = Terms.of(ENERGY_TERMS, features, [c.name for c in shared])
    hosts = {c.name for c in shared} - {c.name for c in ENERGY}
    used = [c for c in CORRECTIONS["energy"] if hosts or c.name != "host_power"]
    return _layout(shared, used, joules, terms, rows, corrected)


def timed_by(layout: Layout, logs: Array, measured_s: Array | None = None) -> Timed:
    """What a duration's layout tells the energy; with the measured seconds of a micro-step where there are some."""
    count = sum(len(device.rows) for device in layout.devices)
    micro_step_s, worked, linked = columns = [np.empty(count) for _ in range(3)]
    for device in layout.devices:
        parts = micro_step_parts(device.terms, layout.own(device, logs), False)
        for column, part in zip(columns, parts, strict=True):
            column[device.rows] = part.value
    passes = float(np.exp(logs[[c.name for c in layout.coefficients].index("elementwise_passes")]))
    load = (worked + linked / 2) / micro_step_s
    return Timed(micro_step_s if measured_s is None else measured_s, load, passes)


def corrections_of(target: Target, model: str, used: Sequence[Correction]) -> tuple[Positive, ...]:
    """The corrections of one device model as coefficients, expected at 1."""
    return tuple(Positive(f"{c.name}[{model}]", target, "1", c.meaning, 1.0, c.factor) for c in used)


def _layout(
    shared: Sequence[Positive],
    used: Sequence[Correction],
    formula: Formula,
    terms: Terms,
    rows: Rows,
    corrected: Sequence[str],
) -> Layout:
    names, code = codes(rows.table, "gpu_model")
    if UNMEASURED in corrected:
        names = [name if name in corrected else UNMEASURED for name in names]
    coefficients = list(shared)
    columns: dict[str, npt.NDArray[np.intp]] = {}
    for model in corrected:
        columns[model] = np.arange(len(coefficients), len(coefficients) + len(used))
        coefficients += corrections_of(shared[0].target, model, used)
    moves = np.array([[float(c.name in correction.moves) for correction in used] for c in shared])
    none = np.array([], dtype=np.intp)
    devices = [_Device(at, terms.take(at), columns.get(name, none)) for (name,), at in groups([(names, code)])]
    return Layout(tuple(coefficients), formula, tuple(devices), moves, len(shared))
