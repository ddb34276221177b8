"""What a law says of a training before it runs, and what is left to go while it does."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from joulelaw.bench.console import duration, number
from joulelaw.bench.forecast.boundaries import boundary_warnings
from joulelaw.bench.forecast.forecast import check_forecasts
from joulelaw.bench.spec.configuration import Configuration
from joulelaw.cluster.nodes.inventory import Device
from joulelaw.model.laws.base import FittedLaw


@dataclass(frozen=True)
class Stated:
    """A forecast of so many micro-steps a rank, with its 95 % interval; energies in J, durations in s."""

    micro_steps: int
    energy_j: float
    energy_low_j: float
    energy_high_j: float
    duration_s: float
    duration_low_s: float
    duration_high_s: float
    boundary: str
    extrapolates: str
    warnings: tuple[str, ...] = ()
    """What must be said beside these joules: estimated, assumed, or without the host."""

    def share(self, micro_steps: int) -> "Stated":
        """Of another number of micro-steps of the same training: all of it is in proportion."""
        by = micro_steps / self.micro_steps
        values = {name: by * getattr(self, name) for name in _SCALED}
        return replace(self, micro_steps=micro_steps, **values)

    @property
    def words(self) -> str:
        """Energy and duration with their intervals."""
        joules = f"{number(self.energy_j)} J ({number(self.energy_low_j)} to {number(self.energy_high_j)})"
        seconds = " to ".join(map(duration, (self.duration_low_s, self.duration_high_s)))
        return f"{joules} of {self.boundary}, {duration(self.duration_s)} ({seconds})"


_SCALED = (
    *("energy_j", "energy_low_j", "energy_high_j"),
    *("duration_s", "duration_low_s", "duration_high_s"),
)


def stated(
    law: FittedLaw, configuration: Configuration, micro_steps: int, boundary: str, devices: Sequence[Device] = ()
) -> Stated:
    """The law's forecast of a training; of the meter's `boundary` where the law knows it.

    Raises:
        InputError: a device or configuration that the law cannot count.
    """
    check_forecasts(law)
    row: dict[str, Any] = configuration.to_dict() | {"micro_steps": micro_steps}
    for name in ("data", "checkpoint"):
        del row[name]
    fitted = law.provenance.boundaries
    row["boundary"] = boundary if boundary in fitted else fitted[0] if fitted else boundary
    limits = {device.power_limit_w for device in devices}
    row["power_limit_w"] = limits.pop() if len(limits) == 1 else None
    found = law.predict(pd.DataFrame([row])).iloc[0]
    numbers = {
        "energy_j": "predicted_energy_j",
        "duration_s": "predicted_duration_s",
        **{name: name for name in ("energy_low_j", "energy_high_j", "duration_low_s", "duration_high_s")},
    }
    return Stated(
        micro_steps,
        **{name: float(found[column]) for name, column in numbers.items()},
        boundary=str(found["boundary"]),
        extrapolates=str(found["extrapolates"]),
        warnings=tuple(boundary_warnings(str(found["boundary"]), law.provenance)),
    )
