"""The sampler: one thread a node that reads its meter at a steady rate and keeps every reading until it is drained."""

import threading
import time
from collections import deque
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from joulelaw.cluster.power.meter import Meter, Reading

# Kept for a drain that is late: 8 devices at 20 Hz fill it in 10 minutes. Older readings go first, and leave a gap
# that the verdict sees.
CAPACITY = 96_000
CLOSE_NS = 1_000_000  # between readings while looking closely
STOP_TIMEOUT_S = 5.0  # a driver that hangs in a call must not hang the study's end with it


class Sampler:
    """Reads `meter` at `rate_hz` from construction to `stop`, like a file that is open.

    Deadlines are counted from the first reading on CLOCK_MONOTONIC, so that no delay adds up; those missed while
    the machine was busy are skipped and counted in `missed`. A meter that raises gives readings with an error.
    """

    def __init__(self, meter: Meter, rate_hz: float, capacity: int = CAPACITY) -> None:
        self.meter = meter
        self.rate_hz = rate_hz
        self.missed = 0  # deadlines that passed unread
        self.dropped = 0  # readings that were not drained in time
        self.cpu_s = 0.0  # CPU time of the sampling thread, meter included
        self._readings: deque[Reading] = deque(maxlen=capacity)
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._wake = threading.Event()  # stopped, or told to look closely
        self._close_until_ns = 0
        self._thread = threading.Thread(target=self._run, name=f"sampler-{meter.name}", daemon=True)
        self._thread.start()

    def drain(self) -> list[Reading]:
        """All readings since the last drain, in the order they were taken."""
        with self._lock:
            readings = list(self._readings)
            self._readings.clear()
        return readings

    def watch(self, device_uuid: str, pids: Sequence[int]) -> None:
        """Tell the meter which processes are at work on a device."""
        self.meter.watch(device_uuid, pids)

    def look_closely(self, seconds: float) -> None:
        """Read every millisecond from now on for so long: ticks of a counter around an edge are then known closely."""
        self._close_until_ns = time.monotonic_ns() + round(seconds * 1e9)
        self._wake.set()

    def stop(self) -> None:
        """Take one last reading, end the thread and close the meter; what was read can still be drained."""
        if self._stopping.is_set():
            return
        self._stopping.set()
        self._wake.set()
        self._thread.join(STOP_TIMEOUT_S)
        if not self._thread.is_alive():
            self.meter.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _run(self) -> None:
        period_ns = round(1e9 / self.rate_hz)
        deadline_ns = time.monotonic_ns()
        while True:
            self._sample()
            now_ns = time.monotonic_ns()
            if now_ns >= deadline_ns:
                deadline_ns, missed = next_deadline_ns(deadline_ns, period_ns, now_ns)
                self.missed += missed
            wait_ns = max(0, deadline_ns - now_ns)
            self._wake.wait((min(wait_ns, CLOSE_NS) if now_ns < self._close_until_ns else wait_ns) / 1e9)
            self._wake.clear()
            if self._stopping.is_set():
                self._sample()
                return

    def _sample(self) -> None:
        try:
            readings = self.meter.read()
        except Exception as error:  # whatever a vendor's library raises: the next reading may work again
            now_ns, text = time.monotonic_ns(), f"{type(error).__name__}: {error}"
            domains = [*self.meter.covers, *self.meter.surroundings]
            readings = [Reading(domain, now_ns, error=text) for domain in domains]
        with self._lock:
            self.dropped += max(0, len(self._readings) + len(readings) - (self._readings.maxlen or 0))
            self._readings.extend(readings)
        self.cpu_s = time.thread_time()


def next_deadline_ns(deadline_ns: int, period_ns: int, now_ns: int) -> tuple[int, int]:
    """The first deadline after `now_ns` on the grid that `deadline_ns` is on, and how many were missed before it.

    >>> next_deadline_ns(100, 10, 104), next_deadline_ns(100, 10, 135)
    ((110, 0), (140, 3))
    """
    periods = max(1, (now_ns - deadline_ns) // period_ns + 1)
    return deadline_ns + periods * period_ns, periods - 1
