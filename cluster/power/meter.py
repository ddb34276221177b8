"""What a power meter is, what it reads, and how the best one for a node's devices is opened."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

from joulelaw import InputError
from joulelaw.cluster.power.sensor import Sensor

MeterKind = Literal["measured", "estimated", "replayed", "none"]
Surrounding = Literal["gpu", "cpu", "dram"]
MeterChoice = Literal["auto", "nvml", "rapl", "estimate", "replay", "none"]

# How `Reading.error` begins when the device has gone: the verdict tells it from a reading that merely failed.
GPU_LOST = "gpu_lost"


@dataclass(frozen=True)
class Reading:
    """One reading of one metered domain. A number that could not be read is None, never 0."""

    device_uuid: str  # the domain read: a key of the meter's `covers`, for most meters the device itself
    time_ns: int  # CLOCK_MONOTONIC of the node when the counter was read
    power_w: float | None = None
    energy_counter_j: float | None = None  # since an arbitrary zero
    temperature_c: float | None = None
    error: str = ""  # why a number is missing; empty when the meter gave all it has
    # About once a second, None between; None too where the meter cannot tell.
    clock_mhz: float | None = None  # of the streaming multiprocessors
    throttle: int | None = None  # NVML's clocks-event (throttle) reasons, its bit mask as it is
    foreign_processes: int | None = None  # at work on the device and not among those that `watch` named


class DeviceLike(Protocol):
    """What a meter needs to know of an inventory device."""

    @property
    def uuid(self) -> str: ...
    @property
    def kind(self) -> Literal["cuda", "cpu"]: ...
    @property
    def cores(self) -> tuple[int, ...]: ...


class Meter(Protocol):
    """One node's meter. `read` and `watch` may be called from different threads; neither touches CUDA."""

    @property
    def name(self) -> str:
        """Which meter: nvml, rapl, cpu_time_estimate, replay or none."""
        ...

    @property
    def kind(self) -> MeterKind:
        """Whether its joules are measured, estimated or replayed; 'none' has no joules."""
        ...

    @property
    def boundary(self) -> str:
        """What its joules cover: gpu, cpu_package, cpu_modelled, or as a replayed trace says."""
        ...

    @property
    def device_uuids(self) -> tuple[str, ...]:
        """The inventory devices it was opened for."""
        ...

    @property
    def covers(self) -> Mapping[str, tuple[str, ...]]:
        """Each metered domain (the `device_uuid` of a reading) and the inventory devices whose energy it holds."""
        ...

    @property
    def description(self) -> Mapping[str, str]:
        """Per domain, in words, where its numbers come from."""
        ...

    @property
    def sensors(self) -> Mapping[str, Sensor]:
        """Per domain, what is known of its sensor; domains of which nothing is known may be missing."""
        ...

    @property
    def surroundings(self) -> Mapping[str, Surrounding]:
        """Domains that are read beside those in `covers`, and what they are: what else the node draws."""
        ...

    def read(self) -> list[Reading]:
        """The readings of all domains now; a replay gives all that fell due since the last call."""
        ...

    def watch(self, device_uuid: str, pids: Sequence[int]) -> None:
        """Name the processes at work on a device: the estimate counts them, NVML the others."""
        ...

    def close(self) -> None:
        """Give back the vendor's library or files. Reading afterwards is an error."""
        ...


class MeterUnavailableError(InputError):
    """A meter cannot be used here.

    >>> print(MeterUnavailableError("no NVML library on this machine", where="meter.kind", remedy="use 'rapl'"))
    meter.kind: no NVML library on this machine; use 'rapl'
    """


@dataclass(frozen=True)
class MeterOptions:
    """What a user may say about metering. `rate_hz` is readings a second, `cpu_w_per_core` the estimate's watts."""

    rate_hz: float = 20.0
    kind: MeterChoice = "auto"
    cpu_w_per_core: float | None = None
    replay_path: str | None = None

    def __post_init__(self) -> None:
        if self.kind not in get_args(MeterChoice):
            choices = ", ".join(get_args(MeterChoice))
            raise InputError(f"unknown meter {self.kind!r}", where="meter.kind", remedy=f"choose one of {choices}")
        if not 0.001 <= self.rate_hz <= 1000:
            raise InputError(f"rate {self.rate_hz} Hz", where="meter.rate_hz", remedy="choose 0.001 to 1000")
        watts = self.cpu_w_per_core
        if watts is not None and not (math.isfinite(watts) and watts > 0):
            raise InputError(f"{watts} W per core", where="meter.cpu_w_per_core", remedy="state watts above 0")
        if (self.kind == "replay") != (self.replay_path is not None):
            raise InputError(
                f"meter {self.kind!r} with replay_path {self.replay_path!r}",
                where="meter.replay_path",
                remedy="a replay needs both `kind: replay` and a `replay_path`; other meters have no path",
            )


class NoMeter:
    """Stands where no meter is: each reading says why there is none, so that no trial passes for 0 J."""

    name = "none"
    kind: MeterKind = "none"
    boundary = ""

    def __init__(self, devices: Sequence[DeviceLike], why: str) -> None:
        self.device_uuids = tuple(device.uuid for device in devices)
        self.covers: Mapping[str, tuple[str, ...]] = {uuid: (uuid,) for uuid in self.device_uuids}
        self.description: Mapping[str, str] = dict.fromkeys(self.device_uuids, f"no meter: {why}")
        self.sensors: Mapping[str, Sensor] = {}
        self.surroundings: Mapping[str, Surrounding] = {}
        self.why = why

    def read(self) -> list[Reading]:
        now = time.monotonic_ns()
        return [Reading(uuid, now, error=f"no meter: {self.why}") for uuid in self.device_uuids]

    def watch(self, device_uuid: str, pids: Sequence[int]) -> None:
        """Nothing to watch with."""

    def close(self) -> None:
        """Nothing was opened."""


# Best first: a measurement before a model.
BEST_FIRST: tuple[MeterChoice, ...] = ("nvml", "rapl", "estimate")


def _open(choice: MeterChoice, devices: Sequence[DeviceLike], options: MeterOptions) -> Meter:
    """One file a meter, imported only when tried: pynvml and pyarrow stay out of a process that needs neither."""
    match choice:
        case "nvml":
            from joulelaw.cluster.power.nvml import open_nvml

            return open_nvml(devices)
        case "rapl":
            from joulelaw.cluster.power.rapl import open_rapl

            return open_rapl(devices)
        case "estimate":
            from joulelaw.cluster.power.estimate import open_estimate

            return open_estimate(devices, options.cpu_w_per_core)
        case "replay":
            from joulelaw.cluster.power.replay import open_replay

            return open_replay(devices, options.replay_path)
        case _:
            return NoMeter(devices, "switched off (meter.kind: none)")


def open_meter(devices: Sequence[DeviceLike], options: MeterOptions) -> Meter:
    """The meter asked for, or with 'auto' the best that works here; `NoMeter` when none does.

    Raises MeterUnavailableError for a meter asked for by name that is absent, InputError for a bad replay file.
    """
    if options.kind != "auto":
        return _open(options.kind, devices, options)
    refusals = []
    for choice in BEST_FIRST:
        try:
            return _open(choice, devices, options)
        except MeterUnavailableError as refusal:
            refusals.append(f"{choice}: {refusal.what}")
    return NoMeter(devices, "; ".join(refusals))
