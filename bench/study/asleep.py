"""How long this machine has slept: time that neither ranks nor meters saw."""

import time


def slept_ns() -> int:
    """Since it booted: CLOCK_BOOTTIME runs on while it sleeps, CLOCK_MONOTONIC does not."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) - time.monotonic_ns()
