"""The sampler: one thread a node that reads its meter at a steady rate and keeps every reading until it is drained."""

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import Protocol, Self, runtime_checkable

from joulelaw.cluster.power.meter import Meter, Reading
from joulelaw.cluster.power.ticks import STEP_NS, CloseLooks

# Kept for a drain that is late: 8 devices at 20 Hz fill it in 10 minutes. Older readings go first, and leave a gap
# that the verdict sees.
CAPACITY = 96_000
STOP_TIMEOUT_S = 5.0  # a driver that hangs in a call must not hang the study's end with it
GOLDEN = (5**0.5 - 1) / 2
NAP_NS = 2_000_000  # a wait so short is slept through, which costs less than a wait that can be ended


@runtime_checkable
class ReadsClosely(Protocol):
    """A meter whose domains can be read one by one, and quickly."""

    def read_closely(self, domains: Iterable[str]) -> list[Reading]: ...


class Sampler:
    """Reads `meter` at `rate_hz` from construction to `stop`, like a file that is open.

    Readings are spread over their periods, so that they never beat with a counter or a sensor that has a rhythm of its
    own (see `deadline_ns`); those missed while the machine was busy are skipped and counted in `missed`. Counters that
    tick are looked at closely now and then (see `ticks`). A meter that raises gives readings with an error.
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
        self._asleep = threading.Lock()  # released to wake the thread; an Event's wait costs three times as much
        self._asleep.acquire()
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
        self._wake()

    def stop(self) -> None:
        """Take one last reading, end the thread and close the meter; what was read can still be drained."""
        if self._stopping.is_set():
            return
        self._stopping.set()
        self._wake()
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
        period_ns, begin_ns, count = round(1e9 / self.rate_hz), time.monotonic_ns(), 0
        meter = self.meter
        domains = tuple(meter.covers) if meter.kind in ("measured", "estimated") else ()
        read_closely = meter.read_closely if isinstance(meter, ReadsClosely) else None
        looks = CloseLooks(meter.sensors, domains if read_closely else (), period_ns / 1e9, begin_ns)
        due_ns: float = begin_ns
        while not self._stopping.is_set():
            now_ns = time.monotonic_ns()
            if now_ns >= due_ns:
                looks.note(self._keep(meter.read))
                now_ns = time.monotonic_ns()
                count, missed = next_count(count, begin_ns, period_ns, now_ns)
                due_ns = deadline_ns(count, begin_ns, period_ns)
                self.missed += missed
            is_close = now_ns < self._close_until_ns
            if close := domains if is_close else looks.due(now_ns):
                looks.note(self._keep(lambda: read_closely(close)) if read_closely else self._keep(meter.read))
                looks.plan(now_ns)
            self._sleep_until(min(due_ns, looks.due_ns(), now_ns + STEP_NS if is_close else due_ns))
        self._keep(meter.read)

    def _wake(self) -> None:
        with contextlib.suppress(RuntimeError):  # it is being woken already
            self._asleep.release()

    def _sleep_until(self, due_ns: float) -> None:
        self.cpu_s = time.thread_time()
        wait_ns = due_ns - time.monotonic_ns()
        if wait_ns > NAP_NS:
            self._asleep.acquire(timeout=wait_ns / 1e9)
        elif wait_ns > 0:
            time.sleep(wait_ns / 1e9)

    def _keep(self, read: Callable[[], list[Reading]]) -> list[Reading]:
        try:
            readings = read()
        except Exception as error:  # whatever a vendor's library raises: the next reading may work again
            now_ns, text = time.monotonic_ns(), f"{type(error).__name__}: {error}"
            domains = [*self.meter.covers, *self.meter.surroundings]
            readings = [Reading(domain, now_ns, error=text) for domain in domains]
        with self._lock:
            self.dropped += max(0, len(self._readings) + len(readings) - (self._readings.maxlen or 0))
            self._readings.extend(readings)
        return readings


def deadline_ns(count: int, begin_ns: int, period_ns: int) -> int:
    """When reading number `count` is due: once in every period, at a place in it that the golden ratio chooses.

    Those places fill the period as evenly as any order can, after any number of readings, so that no rhythm of the
    device's own hides from them; two readings are at most 1.62 periods apart.

    >>> [deadline_ns(count, 1000, 100) for count in range(5)]
    [1000, 1162, 1224, 1385, 1447]
    """
    return begin_ns + round((count + count * GOLDEN % 1) * period_ns)


def next_count(count: int, begin_ns: int, period_ns: int, now_ns: int) -> tuple[int, int]:
    """The first reading that is due after `now_ns`, and how many between the last and it were missed.

    >>> next_count(0, 1000, 100, 1010), next_count(1, 1000, 100, 1400)
    ((1, 0), (4, 2))
    """
    following = max(count + 1, (now_ns - begin_ns) // period_ns)
    while deadline_ns(following, begin_ns, period_ns) <= now_ns:
        following += 1
    return following, following - count - 1
