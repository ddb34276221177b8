"""What chance makes of a simulated study: durations off their forecasts, attempts that fail, nodes that are lost.

Every draw depends on the seed and on what it is drawn for, not on when: two schedulers meet the same.
"""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import NormalDist

from joulelaw.cluster.failures import Cause
from joulelaw.cluster.scheduling.scheduler import WaitingTrial
from joulelaw.cluster.scheduling.simulator import Fate
from joulelaw.cluster.scheduling.timeline import CapacityChange

_NORMAL = NormalDist()


@dataclass(frozen=True)
class Fates:
    """Durations lognormal about their forecasts, and failures at any point of an attempt.

    `error` is the standard deviation of the logarithm of duration / forecast over configurations, `scatter` that over
    the repeats of one. `failures` is the chance of each cause, by attempt; `hang_s` is how long a hang goes unnoticed.
    """

    seed: int = 0
    error: float = 0.3
    scatter: float = 0.03
    failures: Mapping[Cause, float] = field(default_factory=dict)
    hang_s: float = 300.0

    def __call__(self, trial: WaitingTrial, attempt: int) -> Fate:
        """See simulator.FateOf."""
        configuration = trial.configuration or trial.trial_id
        off = self.error * _NORMAL.inv_cdf(self._draw("error", configuration))
        off += self.scatter * _NORMAL.inv_cdf(self._draw("scatter", trial.trial_id))
        duration_s = trial.expected_s * math.exp(off)
        chance = self._draw("failure", trial.trial_id, attempt)
        for cause, share in self.failures.items():
            if chance < share:
                late_s = self.hang_s if cause is Cause.HANG else 0.0
                return Fate(self._draw("moment", trial.trial_id, attempt) * duration_s + late_s, cause)
            chance -= share
        return Fate(duration_s)

    def node_changes(
        self, nodes: Mapping[str, Mapping[str, int]], mean_life_s: float, away_s: float, until_s: float
    ) -> list[CapacityChange]:
        """Losses of nodes until then, exponentially distributed; each comes back after `away_s`, by another name."""
        changes = []
        for node, devices in nodes.items():
            name, returns, time_s = node, 0, self._life_s(node, mean_life_s)
            while time_s < until_s:
                returns += 1
                again = f"{node}+{returns}"
                changes += [CapacityChange(time_s, name, {}), CapacityChange(time_s + away_s, again, devices)]
                name, time_s = again, time_s + away_s + self._life_s(again, mean_life_s)
        return changes

    def _life_s(self, node: str, mean_s: float) -> float:
        return -mean_s * math.log(self._draw("life", node))

    def _draw(self, *what: object) -> float:
        """Uniform in (0, 1)."""
        digest = hashlib.blake2b(repr((self.seed, *what)).encode(), digest_size=7).digest()
        return (int.from_bytes(digest) + 0.5) / 2**56
