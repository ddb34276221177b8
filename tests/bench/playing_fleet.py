"""A fleet whose devices draw known powers and whose gangs live in real time, for tests of what a trial is told.

Every domain draws what a function of time says, exactly; a reading's counter is its integral. A gang steps as long as
a rank would: until it is told enough after its minimum, and at most `max_s`.
"""

import itertools
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from joulelaw.bench.trial.running import Event
from joulelaw.cluster.power.meter import MeterKind, Reading, Surrounding
from joulelaw.cluster.power.sensor import Sensor
from joulelaw.cluster.ranks.gang import GangState
from joulelaw.cluster.streams.metering import MeterInfo, readings_batch
from tests.bench.fake_fleet import DEVICES, NODE, FakeFleet, FakeGang

STEP_S = 0.02
READ_EVERY_NS = 10_000_000


class PlayingFleet(FakeFleet):
    """`watts` by domain; those that are no device's are surroundings, with their role. Read at 100 Hz, in arrears."""

    def __init__(
        self,
        gangs: Sequence[FakeGang] = (),
        watts: Mapping[str, float] | None = None,
        roles: Mapping[str, Surrounding] | None = None,
        sensors: Mapping[str, Sensor] | None = None,
        kind: MeterKind = "measured",
    ) -> None:
        super().__init__(gangs, "cpu_time_estimate" if kind == "estimated" else "nvml", kind)
        self.watts = dict.fromkeys((device.uuid for device in DEVICES), 10.0) if watts is None else dict(watts)
        uuids = tuple(device.uuid for device in DEVICES)
        covers = {uuid: (uuid,) for uuid in uuids}
        info = MeterInfo(self.meters[NODE].name, kind, "gpu", uuids, covers, {}, sensors or {}, roles or {})
        self.meters = {NODE: info}
        self.conditions: dict[str, Any] = {}
        self._read_until_ns = self._zero_ns = time.monotonic_ns()

    def drain_power(self, nodes: Collection[str] | None = None) -> dict[str, pa.RecordBatch]:
        readings, now_ns = [], time.monotonic_ns()
        while self._read_until_ns + READ_EVERY_NS <= now_ns:
            self._read_until_ns += READ_EVERY_NS
            readings += [self._reading(domain, self._read_until_ns) for domain in self.watts]
        return {NODE: readings_batch(self.meters[NODE].name, readings)}

    def _reading(self, domain: str, time_ns: int) -> Reading:
        counter_j = 100 + self.watts[domain] * 1e-9 * (time_ns - self._zero_ns)
        return Reading(domain, time_ns, self.watts[domain], counter_j, **self.conditions)


class LivingGang(FakeGang):
    """Ranks that step in real time, each step as long as `step_times` has it, and listen as real ones do."""

    JITTER_S = 0.0004

    def __init__(self, count: int = 1, min_s: float = 1.5, max_s: float = 1.5) -> None:
        super().__init__(count)
        self.asked: dict[str, Any] = {}
        self.told: list[Mapping[str, Any]] = []
        self.told_s: dict[str, float] = {}
        self.step_times: Iterator[float] = itertools.repeat(STEP_S)
        self._step_s: float | None = None  # of the step that is under way
        self._min_s, self._max_s = min_s, max_s
        self._ends_ns: list[int] = []

    def start(self, entry: str, payload: dict[str, Any], *_: Any) -> None:
        self.state, self.asked = GangState.RUNNING, payload
        self._ends_ns = [time.monotonic_ns()]

    def tell(self, message: Mapping[str, Any]) -> None:
        self.told.append(message)
        self.told_s[message["kind"]] = 1e-9 * (time.monotonic_ns() - self._ends_ns[0])

    def poll(self) -> list[Event]:
        if self.state is not GangState.RUNNING:
            return []
        now_ns, rows = time.monotonic_ns(), []
        while (end_ns := self._ends_ns[-1] + round(1e9 * self._under_way_s())) <= now_ns:
            rows.append([len(self._ends_ns) - 1, True, self._ends_ns[-1], end_ns, 0.5])
            self._ends_ns.append(end_ns)
            self._step_s = None
        ranks = range(len(self.devices))
        events = [{"kind": "steps", "rank": rank, "node": NODE, "rows": rows} for rank in ranks] if rows else []
        seconds = 1e-9 * (now_ns - self._ends_ns[0])
        enough = any(message["kind"] == "enough" for message in self.told)
        if (seconds >= self._min_s and enough) or seconds >= self._max_s:
            self.state = GangState.DONE
            events += [event for rank in ranks for event in self._end(rank)]
        return events

    def _under_way_s(self) -> float:
        """Drawn once a step, however often it is asked for."""
        self._step_s = next(self.step_times) if self._step_s is None else self._step_s
        return self._step_s

    def _end(self, rank: int) -> list[Event]:
        place = {"rank": rank, "node": NODE}
        times = {"begin_ns": self._ends_ns[0], "end_ns": self._ends_ns[-1], "slept_ns": 0}
        counted = {"measured_steps": len(self._ends_ns) - 1, "warmup_steps": 0}
        window = {"kind": "window", **place, **times, **counted, "warmup_s": 0.0, "jitter_s": self.JITTER_S}
        counts = dict.fromkeys(("micro_steps", "tokens", "padded_tokens", "num_parameters", "threads"), 1)
        memory = {"peak_memory_bytes": 2, "base_memory_bytes": 1, "backend": "", "skipped_steps": 0}
        return [window, {"kind": "done", **place, **counts, **memory, "loss_first": 0.5, "loss_last": 0.5}]
