"""Whether a group's devices are cool enough for a trial to begin, where the sweep asks for that."""

import time

from joulelaw.bench.spec.schema import MeteringSection
from joulelaw.bench.trial.running import RunningTrial

# Devices that have told no temperature by then tell none: nothing to wait for.
NO_TEMPERATURE_S = 3.0


def is_cool(trial: RunningTrial, metering: MeteringSection) -> bool:
    """Of a trial that holds its devices and has not started: whether to start it now."""
    if metering.cooldown_c is None:
        return True
    waited_s = time.monotonic() - trial.began_s
    latest = [readings[-1][1] for readings in trial.temperatures() if readings]
    if not latest:
        return waited_s >= min(NO_TEMPERATURE_S, metering.cooldown_max_s)
    return max(latest) < metering.cooldown_c or waited_s >= metering.cooldown_max_s
