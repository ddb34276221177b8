"""When a trial is warm: pure decisions on step times and temperatures.

Steps are warm once they take the same time again and again; a device is once its temperature has all but settled, as
its leakage, and so its power, grows with it.
"""

import math
import statistics
from collections.abc import Sequence

from joulelaw.bench.spec.configuration import Window

# Medians of two successive halves may differ by this share, or by twice what their scatter explains.
SAME = 0.02
# Their scatters may differ by this factor, unless both are below `SAME`.
SCATTER = 3.0
# Fewer steps than this in a half say nothing of a trend.
HALF = 5
# On a GPU by default; a CPU has no clocks to raise, and its first steps are its slow ones.
LONGEST_S = {"cuda": 60.0, "cpu": 0.0}
LOOK_S = 0.5
# Over so many seconds a device that is warm gains at most this: a degree is what sensors resolve.
RISE_OVER_S = 3.0
RISE_C = 1.0


def longest_s(window: Window, device_kind: str) -> float:
    """How long the rule may go on; 0: there is no rule, and `warmup_steps` are run."""
    return LONGEST_S[device_kind] if window.warmup_max_s is None else window.warmup_max_s


def warmup_chunk(step_s: Sequence[float], elapsed_s: float, longest: float, device_is_warm: bool) -> int:
    """Steps to run before looking again, of a warm-up that took these times so far; 0 ends it."""
    if elapsed_s >= longest or (device_is_warm and steady(step_s)):
        return 0
    missing = 2 * HALF - len(step_s)
    usual_s = statistics.median(step_s[-2 * HALF :]) if step_s else LOOK_S
    return max(1, missing, math.floor(min(LOOK_S, longest - elapsed_s) / max(usual_s, 1e-6)))


def steady(step_s: Sequence[float]) -> bool:
    """Whether the later half of these step times has no trend: its own two halves agree in median and scatter."""
    later = list(step_s[-max(2 * HALF, len(step_s) // 2) :])
    if len(later) < 2 * HALF:
        return False
    half = len(later) // 2
    (one_s, one), (other_s, other) = (_middle(part) for part in (later[-2 * half : -half], later[-half:]))
    # A median's standard error, of normal scatter: 1.25 standard deviations over the root of the number.
    noise_s = 1.25 * math.hypot(one, other) / math.sqrt(half)
    alike = abs(one_s - other_s) <= max(SAME * other_s, 2 * noise_s)
    small = max(one, other) <= SAME * other_s
    return alike and (small or max(one, other) <= SCATTER * min(one, other))


def settled(times_s: Sequence[float], temperatures_c: Sequence[float]) -> bool:
    """Whether a device's temperature, at these times, rose by no more than `RISE_C` in the last `RISE_OVER_S`."""
    now_s = times_s[-1]
    before = [c for at_s, c in zip(times_s, temperatures_c, strict=True) if at_s <= now_s - RISE_OVER_S]
    return bool(before) and temperatures_c[-1] - before[-1] <= RISE_C


def _middle(values: Sequence[float]) -> tuple[float, float]:
    """Median, and the standard deviation that the median absolute deviation tells of (1.48 of it, if normal)."""
    median = statistics.median(values)
    return median, 1.48 * statistics.median(abs(value - median) for value in values)
