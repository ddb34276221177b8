"""What an enforced power limit below a device's default does: a lower clock, and less energy an operation.

Dynamic power goes with f V^2. Down to the voltage's floor V follows the clock f, so that power goes with f^3 and the
energy of an operation with f^2; below it power goes with f, and an operation costs no less. (Choi et al. 2013 cap the
roofline by power; the two regimes are those of dynamic voltage and frequency scaling, Le Sueur and Heiser 2010.)
The three shares below were fitted to a V100 and an A40 that fine-tune BERT under limits from a third of their default
up (Zeus, NSDI 2023): the time is met to 8 % on average (benchmarks/power_cap.py). Leaves out that launch-bound work
draws less, and is slowed later.
"""

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

STATIC_SHARE = 0.23
"""Of the default limit, drawn whatever the clock."""
BUSY_SHARE = 0.88
"""Of the default limit, drawn by a busy device that nothing holds back."""
FLOOR = 0.49
"""Share of the dynamic power at which the voltage is at its floor."""


def relative_clock(limit_w: Array, default_limit_w: Array) -> Array:
    """The clock under a limit, relative to that under the default: 1 where the limit holds nothing back or is unknown.

    Limits at or below the static power leave 5 % of the dynamic power: no device takes a lower limit than that.
    """
    with np.errstate(invalid="ignore"):
        share = (limit_w / default_limit_w - STATIC_SHARE) / (BUSY_SHARE - STATIC_SHARE)
        share = np.clip(share, 0.05, 1.0)
        clock = np.minimum(share ** (1 / 3), share * FLOOR ** (-2 / 3))
    return np.asarray(np.where(np.isnan(clock), 1.0, clock))


def relative_energy(clock: Array) -> Array:
    """Dynamic energy of an operation at a relative clock, against that at the full one: f^2 down to the floor."""
    return np.asarray(np.maximum(clock, FLOOR ** (1 / 3)) ** 2)
