"""How long a trial is measured: pure decisions, taken at the edges of chunks of steps."""

import math

from joulelaw.bench.spec.configuration import Window

# A chunk aims a little past `min_s`, so that one chunk is nearly always enough.
MARGIN = 1.02


# Beyond its minimum a window is looked at so often.
LOOK_S = 0.25


def next_chunk(window: Window, done: int, elapsed_s: float, step_s: float | None, enough: bool = False) -> int:
    """How many steps to run before looking at the clock again; 0 ends the window.

    `done` steps were measured in `elapsed_s` seconds. `step_s` is the latest estimate of a step's duration in
    seconds, None where there is none yet. `enough`: the energy per step is known as well as was asked for. At least
    one step is measured, and a chunk is planned to use at most half the time left until `max_s`, so that steps that
    turn slow overrun it little.
    """
    missing = window.min_steps - done
    missing_s = window.min_s - elapsed_s
    full = missing <= 0 and missing_s <= 0
    if done and (elapsed_s >= window.max_s or (full and (enough or window.tolerance is None))):
        return 0
    if not step_s:
        return 1
    wanted = math.floor(LOOK_S / step_s) if full else max(missing, math.ceil(MARGIN * missing_s / step_s))
    wanted = max(wanted, 1)
    affordable = max(1, math.floor((window.max_s - elapsed_s) / 2 / step_s))
    return min(wanted, affordable)
