"""Steps in time with a sensor that sees only part of it: how long to pause after each so that it sees all of a step.

A sensor that averages 25 ms of every 100 (A100) shows the same part of each step where steps take 100 ms, 200 ms or
50 ms: its mean is then off by as much as the power varies within a step, however long it is read (arXiv 2312.02741).
With a pause of a few parts in a thousand the phase between the two moves through whole updates in a window.
"""

import math

from joulelaw.cluster.power.sensor import Sensor

# Whole updates that the phase shall sweep in a window; below one the sensor has not seen all of a step.
SWEPT = 2.0
ENOUGH_SWEPT = 1.0
# At most this share of a step: it is time, and idle power, that training would not have.
MOST = 0.02


def sees_partly(sensor: Sensor) -> bool:
    """Whether the sensor is known to leave out part of the time."""
    update_s, averaged_s = sensor.power_update_s, sensor.power_averaged_s
    return update_s is not None and averaged_s is not None and averaged_s < update_s


def pause_s(step_s: float, update_s: float, window_s: float) -> float:
    """Seconds to pause after each step of `step_s`, for a sensor that updates every `update_s`; 0 where none is needed.

    Where steps are the longer, `turns` updates nearly make a step; otherwise `turns` steps nearly make an update.
    What is missing is the drift, and over the window drifts add up. Steps in other proportions (2 to 3, say) are seen
    in several phases each time.
    """
    if min(step_s, update_s, window_s) <= 0 or swept(step_s, update_s, window_s) >= ENOUGH_SWEPT:
        return 0.0
    shorter_s, longer_s = sorted((step_s, update_s))
    turns = round(longer_s / shorter_s)
    drift_s = step_s - turns * update_s if step_s >= update_s else turns * step_s - update_s
    beats = window_s / longer_s
    wanted_s = SWEPT * shorter_s / beats - drift_s
    pause = min(wanted_s if step_s >= update_s else wanted_s / turns, MOST * step_s)
    helps = swept(step_s + pause, update_s, window_s) > swept(step_s, update_s, window_s)
    return pause if helps else 0.0  # steps a little short of a multiple would only come closer to it


def swept(step_s: float, update_s: float, window_s: float) -> float:
    """Whole turns of the phase between steps and sensor over a window.

    >>> round(swept(0.1, 0.1, 12.0), 3), round(swept(0.101, 0.1, 12.0), 2)
    (0.0, 1.19)
    """
    shorter_s, longer_s = sorted((step_s, update_s))
    drift_s = longer_s - round(longer_s / shorter_s) * shorter_s
    return math.fabs(drift_s) * (window_s / longer_s) / shorter_s
