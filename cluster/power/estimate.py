"""Where there is no meter: the CPU time of the processes at work, times stated watts per core.

An estimate is watts × CPU time, an identity: it says where time goes, and nothing about the machine's real power.
"""

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from joulelaw.cluster.power.meter import DeviceLike, MeterKind, MeterUnavailableError, Reading, Surrounding
from joulelaw.cluster.power.sensor import Sensor


def process_cpu_ns(pid: int) -> int | None:
    """CPU time of a process, all its threads, in ns since it began; None once it is gone.

    Linux makes the id of a process's CPU clock from its pid (include/linux/posix-timers_types.h: CPUCLOCK_SCHED);
    a child that ended but was not yet waited for still answers with its last value.
    """
    try:
        return time.clock_gettime_ns((~pid << 3) | 2)
    except OSError:
        return None


@dataclass
class _Device:
    """What one device's processes have used: those done, and those at work with the last value seen of each."""

    used_ns: int = 0
    last_ns: dict[int, int] = field(default_factory=dict)
    problem: str = "no process is watched on this device yet"

    def advance(self) -> int:
        for pid, before_ns in list(self.last_ns.items()):
            now_ns = process_cpu_ns(pid)
            if now_ns is None or now_ns < before_ns:  # gone, or another process has its number by now
                del self.last_ns[pid]
                # What it used since the last reading nobody knows: a count that stood still would say it was nothing.
                self.problem = "" if self.last_ns else "the processes at work have ended"
                continue
            self.used_ns += now_ns - before_ns
            self.last_ns[pid] = now_ns
        return self.used_ns

    def watch(self, pids: Sequence[int]) -> None:
        self.advance()  # what those no longer watched have used stays counted
        started = {pid: process_cpu_ns(pid) for pid in pids}
        self.last_ns = {pid: now_ns for pid, now_ns in started.items() if now_ns is not None}
        # Otherwise a trial whose end came before its processes were named would pass for one that used nothing.
        self.problem = "" if self.last_ns or not pids else "the processes had ended before they were watched"


class EstimateMeter:
    """CPU seconds × watts per core, per logical device. Made by `open_estimate`."""

    name = "cpu_time_estimate"
    kind: MeterKind = "estimated"
    boundary = "cpu_modelled"

    def __init__(self, device_uuids: tuple[str, ...], w_per_core: float) -> None:
        self.device_uuids = device_uuids
        self.covers: Mapping[str, tuple[str, ...]] = {uuid: (uuid,) for uuid in device_uuids}
        self.description: Mapping[str, str] = dict.fromkeys(
            device_uuids, f"energy: CPU time of the trial's processes x {w_per_core:g} W per core, as stated"
        )
        self.sensors: Mapping[str, Sensor] = dict.fromkeys(device_uuids, Sensor(counter_tick_s=0.0))
        self.surroundings: Mapping[str, Surrounding] = {}
        self._w_per_core = w_per_core
        self._devices = {uuid: _Device() for uuid in device_uuids}
        self._lock = threading.Lock()  # the sampler's thread reads while another watches

    def read(self) -> list[Reading]:
        with self._lock:
            return [self._read(uuid, device) for uuid, device in self._devices.items()]

    def _read(self, uuid: str, device: _Device) -> Reading:
        begin_ns = time.monotonic_ns()
        used_s = device.advance() / 1e9
        if device.problem:
            return Reading(uuid, begin_ns, error=device.problem)
        return Reading(uuid, (begin_ns + time.monotonic_ns()) // 2, energy_counter_j=used_s * self._w_per_core)

    def watch(self, device_uuid: str, pids: Sequence[int]) -> None:
        """From now on these processes are at work on the device, and no others."""
        with self._lock:
            self._devices[device_uuid].watch(pids)

    def close(self) -> None:
        """Nothing is held between readings."""


def open_estimate(devices: Sequence[DeviceLike], w_per_core: float | None) -> EstimateMeter:
    """Estimate CPU devices at `w_per_core` watts for each busy core.

    Raises MeterUnavailableError where no wattage is stated and for a device that is no CPU.
    """
    where, others = "meter.kind 'estimate'", [device.uuid for device in devices if device.kind != "cpu"]
    if others:
        raise MeterUnavailableError(f"not a CPU device: {', '.join(others)}", where=where, remedy="choose 'nvml'")
    if w_per_core is None:
        raise MeterUnavailableError(
            "no wattage is stated", where=where, remedy="state `cpu_w_per_core`, such as the CPU's TDP over its cores"
        )
    return EstimateMeter(tuple(device.uuid for device in devices), w_per_core)
