"""Close looks at energy counters: where in time each one ticks, so that a window's edge is known to a millisecond.

A counter that moves on every 100 ms says little of the energy at a time between, unless it is known when it moved.
About every 2 s each counter is read a few times, 1 ms apart, around the tick that is expected next; two readings
between which it moved enclose the tick. Ticks that are not where they were expected widen the next look.
"""

import math
from collections.abc import Iterable, Mapping

from joulelaw.cluster.power.meter import Reading
from joulelaw.cluster.power.sensor import Sensor

LOOK_EVERY_NS = 2_000_000_000
RETRY_NS, LONGEST_WAIT_NS = 500_000_000, 32_000_000_000  # after a look that missed its tick, after many in a row
STEP_NS = 1_000_000
CLOSE_NS = 3_000_000  # readings so close together enclose a tick; a busy machine delays some
LEAST_MARGIN_NS = 1_500_000
FIRST_MARGIN = 0.06  # of a tick: what half a second of watching leaves open after 2 s, and a little
BASELINE_NS = 1_000_000_000  # ticks so far apart tell how long one takes


class Ticks:
    """The ticks of one counter: the last that was seen closely, and when to look for another.

    A look lasts from `due_ns` to `end_ns`. The first is one whole tick long, as nothing is known.
    """

    def __init__(self, tick_s: float, now_ns: int) -> None:
        self.tick_ns = tick_s * 1e9
        self.margin_ns = max(LEAST_MARGIN_NS, FIRST_MARGIN * self.tick_ns)  # around the time it is expected at
        self.due_ns = float(now_ns)
        self.end_ns = now_ns + 1.1 * self.tick_ns
        self._at_ns: float | None = None
        self._anchor_ns: float | None = None
        self._before: tuple[int, float] | None = None
        self._misses = 0

    def note(self, time_ns: int, counter_j: float | None) -> None:
        """Any reading of the counter, close or not, in their order."""
        before = self._before
        self._before = None if counter_j is None else (time_ns, counter_j)
        if before is None or counter_j is None or counter_j == before[1]:
            return
        if time_ns - before[0] <= CLOSE_NS:
            self._found((time_ns + before[0]) / 2)

    def plan(self, now_ns: int) -> None:
        """After a close look at `now_ns` that found nothing: the next in a millisecond, or the search given up."""
        if self.due_ns <= now_ns:
            self.due_ns = now_ns + STEP_NS
            if self.due_ns > self.end_ns:
                self._missed(now_ns)

    def _found(self, at_ns: float) -> None:
        if self._anchor_ns is None:
            self._anchor_ns = at_ns
        elif at_ns - self._anchor_ns >= BASELINE_NS:
            ticks = round((at_ns - self._anchor_ns) / self.tick_ns)
            off_ns = at_ns - self._anchor_ns - ticks * self.tick_ns
            self.tick_ns += 0.5 * off_ns / ticks
            self.margin_ns = max(LEAST_MARGIN_NS, 0.7 * self.margin_ns, abs(off_ns) + STEP_NS)
            self._anchor_ns = at_ns
        self._at_ns = at_ns
        self._misses = 0
        self._expect(at_ns + LOOK_EVERY_NS)

    def _missed(self, now_ns: int) -> None:
        """The tick came early or late, the machine was busy, or the counter stands still: then ever less often."""
        wait_ns = min(RETRY_NS * 2**self._misses, LONGEST_WAIT_NS)
        self._misses += 1
        self.margin_ns = min(2 * self.margin_ns + STEP_NS, self.tick_ns)
        self._expect(now_ns + wait_ns)

    def _expect(self, after_ns: float) -> None:
        """The next look is around the first tick after this time."""
        expected_ns = after_ns
        if self._at_ns is not None:
            expected_ns = self._at_ns + math.ceil((after_ns - self._at_ns) / self.tick_ns) * self.tick_ns
        margin_ns = min(self.margin_ns, 0.55 * self.tick_ns)
        self.due_ns, self.end_ns = expected_ns - margin_ns, expected_ns + margin_ns


class PowerSteps:
    """Power that alone tells a device's energy, and changes faster than it is read: no change of it goes unread."""

    def __init__(self, update_s: float, now_ns: int) -> None:
        self._step_ns = round(0.8 * update_s * 1e9)
        self.due_ns = float(now_ns)

    def note(self, time_ns: int, counter_j: float | None) -> None:
        """Nothing is learnt from a reading."""

    def plan(self, now_ns: int) -> None:
        if self.due_ns <= now_ns:
            self.due_ns = max(self.due_ns + self._step_ns, now_ns)


class CloseLooks:
    """All domains of a meter that are looked at closely: when the next one is due."""

    def __init__(self, sensors: Mapping[str, Sensor], domains: Iterable[str], period_s: float, now_ns: int) -> None:
        self._looks: dict[str, Ticks | PowerSteps] = {}
        for domain in domains:
            sensor = sensors.get(domain, Sensor())
            if sensor.counter_tick_s:
                self._looks[domain] = Ticks(sensor.counter_tick_s, now_ns)
            elif sensor.counter_tick_s is None and 0 < (sensor.power_update_s or 0) < period_s:
                self._looks[domain] = PowerSteps(sensor.power_update_s or 0, now_ns)

    def due_ns(self) -> float:
        return min((look.due_ns for look in self._looks.values()), default=math.inf)

    def due(self, now_ns: int) -> list[str]:
        return [domain for domain, look in self._looks.items() if look.due_ns <= now_ns]

    def note(self, readings: Iterable[Reading]) -> None:
        for reading in readings:
            if look := self._looks.get(reading.device_uuid):
                look.note(reading.time_ns, reading.energy_counter_j)

    def plan(self, now_ns: int) -> None:
        """After the looks that were due."""
        for look in self._looks.values():
            look.plan(now_ns)
