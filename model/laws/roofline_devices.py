"""Each device's own numbers: the shared coefficients times its corrections and its data sheet, with intervals."""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from joulelaw.model.intervals import Z
from joulelaw.model.laws.base import Coefficient, Parameters, Rows, Target

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Own:
    """A device's own number: coefficient x correction, times its data sheet's speed, or of an energy, its power limit
    over that speed."""

    name: str
    target: Target
    coefficient: str
    correction: str
    sheet: str  # the column of the speed; empty: none
    unit: str
    meaning: str

    def scale(self, rows: Rows, limit_w: Array, at: Sequence[int]) -> float:
        """What the coefficients are multiplied by: medians over the device's rows."""
        power, limit = (-1, float(np.median(limit_w[at]))) if self.target == "energy" else (1, 1.0)
        speed = float(np.median(rows.column(self.sheet)[at])) ** power if self.sheet else 1.0
        return speed * limit


OWN = (
    Own("flop_per_s", "duration", "eta_flop", "compute", "peak_flop_per_s", "FLOP/s", "products' speed"),
    Own("bytes_per_s", "duration", "eta_bandwidth", "bandwidth", "bandwidth_bytes_per_s", "B/s", "memory's speed"),
    Own("sent_bytes_per_s", "duration", "eta_link", "link", "link_bytes_per_s", "B/s", "link's speed"),
    Own("static_w", "energy", "kappa_static", "static", "", "W", "power of one device whatever it does"),
    Own("flop_j", "energy", "kappa_flop", "dynamic", "peak_flop_per_s", "J/FLOP", "energy of one operation"),
    Own("byte_j", "energy", "kappa_byte", "dynamic", "bandwidth_bytes_per_s", "J/B", "energy of a byte moved"),
    Own("sent_byte_j", "energy", "kappa_link", "dynamic", "link_bytes_per_s", "J/B", "energy of a byte sent"),
    Own("kernel_j", "energy", "kappa_kernel_s", "dynamic", "", "J", "energy of a kernel whatever its size"),
)
BY_PRECISION = "peak_flop_per_s"


def device_coefficients(
    parameters: Parameters, draws: Sequence[Parameters], rows: Rows, limit_w: Array, held: Set[str]
) -> tuple[Coefficient, ...]:
    """Of every device model among the rows, of its arithmetic for each precision; links where groups were measured.

    Where rows of a device differ in their link or have several power limits, their median is used. What is made of a
    coefficient `held` by a bound is not identified.
    """
    result: dict[str, Coefficient] = {}
    pairs = list(zip(rows.table["gpu_model"], rows.table["precision"], strict=True))
    for model, precision in sorted(set(pairs)):
        at = [k for k, pair in enumerate(pairs) if pair == (model, precision)]
        for own in OWN:
            where = f"{model}, {precision}" if own.sheet == BY_PRECISION else str(model)
            name = f"{own.name}[{where}]"
            if name not in result:
                factors = _factors(own, str(model), precision, parameters)
                found = _own(own, name, factors, own.scale(rows, limit_w, at), parameters, draws)
                result[name] = replace(found, identified=found.identified and held.isdisjoint(factors))
    return tuple(result.values())


def interval_of(value: float, drawn: Sequence[float]) -> tuple[float, float, bool]:
    """The value's 95 % interval from what the logarithms of draws scatter by, and whether it is within a factor 2.

    nan without draws. Around the value, not the draws' own percentiles: random centres of priors add, on the mean, to
    terms that the rows leave open and so take from the others, where percentiles covered the truth as little as 58 %
    of the time (`benchmarks/law_recovery.py`).
    """
    if len(drawn) < 2:
        return float("nan"), float("nan"), False
    factor = float(np.exp(Z * np.std(np.log(drawn), ddof=1)))
    return value / factor, value * factor, factor <= 2.0


def _factors(own: Own, model: str, precision: str, parameters: Mapping[str, float]) -> list[str]:
    reduced = "_reduced" if own.coefficient == "eta_flop" and precision != "fp32" else ""
    correction = f"{own.target}.{own.correction}[{model}]"
    return [f"{own.target}.{own.coefficient}{reduced}", *([correction] if correction in parameters else [])]


def _own(
    own: Own, name: str, factors: Sequence[str], scale: float, parameters: Parameters, draws: Sequence[Parameters]
) -> Coefficient:
    value = scale * float(np.prod([parameters[each] for each in factors]))
    drawn = [scale * float(np.prod([draw[each] for each in factors])) for draw in draws]
    low, high, identified = interval_of(value, drawn)
    meaning = f"{own.meaning}, from {own.coefficient}"
    return Coefficient(own.target, name, value, low, high, own.unit, meaning, identified=identified)
