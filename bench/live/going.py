"""How a live training goes: joules so far, watts now, and joules to go, by one sum over the meters of all its nodes."""

import time
from collections.abc import Sequence

from joulelaw.bench.known import total
from joulelaw.bench.live.joules import LiveMeter, SoFar
from joulelaw.bench.live.ranks import Company, Ranks

# Power is the mean over at least so long (s), and what is left to go is told from so much of the training on.
LEAST_S = 2.0


class Going:
    """Of the process that leads its node; the first of all tells, the others tell it.

    Sums are a second old at most; those of other nodes as old as their last call.
    """

    def __init__(self, meter: LiveMeter, ranks: Ranks, company: Company, total_steps: int | None) -> None:
        self._meter, self._ranks, self._total_steps = meter, ranks, total_steps
        self._others: Sequence[int] = [leader for leader in company.leaders if leader]
        self._leads_all = company.rank == 0
        self._base: tuple[int, SoFar] | None = None
        self.is_warm = False
        self._last: SoFar | None = None
        self._power_w: float | None = None

    def warm(self, steps: int) -> None:
        """Steps are as they will be: `steps` are done. To be told until `is_warm`: once there are joules."""
        now = self._whole()
        self._base, self.is_warm = (steps, now), now.energy_j is not None

    def told(self, steps: int, forecast_j: float | None) -> dict[str, float | None]:
        """energy_j and energy_to_go_j (J) and power_w (W) after so many steps; empty on all but the first process.

        To go is by what the steps since the warm-up took, before there are enough of them by the forecast of all.
        """
        now = self._whole()
        if not self._leads_all:
            return {}
        is_new = self._last is None or now.time_ns - self._last.time_ns > LEAST_S * 1e9
        if now.energy_j is not None and is_new:
            self._power_w = _power_w(self._last or SoFar(0.0, now.begin_ns, now.begin_ns), now)
            self._last = now
        return {"energy_j": now.energy_j, "energy_to_go_j": self._to_go_j(now, steps, forecast_j),
                "power_w": self._power_w}  # fmt: skip

    def _whole(self) -> SoFar:
        own = self._meter.so_far()
        if not self._leads_all:
            self._ranks.say("so_far", own.energy_j)
            return own
        others = self._ranks.latest("so_far", self._others) if self._others else []
        return SoFar(total([own.energy_j, *others]), own.begin_ns, own.time_ns)

    def _to_go_j(self, now: SoFar, steps: int, forecast_j: float | None) -> float | None:
        if self._total_steps is None:
            return None
        left = max(0, self._total_steps - steps)
        if self._base is not None and now.time_ns - self._base[1].time_ns > LEAST_S * 1e9:
            before, base = self._base
            power_w, seconds = _power_w(base, now), 1e-9 * (time.monotonic_ns() - base.time_ns)
            return None if power_w is None or steps == before else power_w * seconds / (steps - before) * left
        return None if forecast_j is None else forecast_j * left / self._total_steps


def _power_w(before: SoFar, now: SoFar) -> float | None:
    if before.energy_j is None or now.energy_j is None or now.time_ns <= before.time_ns:
        return None
    return (now.energy_j - before.energy_j) / (1e-9 * (now.time_ns - before.time_ns))
