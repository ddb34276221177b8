"""A meter of whole GPUs, whatever their maker's library: those asked for, and the rest of the node beside them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

from joulelaw.cluster.power.meter import MeterKind, Reading, Surrounding
from joulelaw.cluster.power.moves import Moves, watch_moves
from joulelaw.cluster.power.rapl_zones import Host
from joulelaw.cluster.power.sensor import Sensor

PROBE_S = 0.5  # for all GPUs of the node together
CONDITIONS_EVERY_NS = 1_000_000_000  # degrees change over seconds; each call costs the sampler time


class MeteredGpu(Protocol):
    """One GPU as its maker's library reads it."""

    uuid: str
    slices: tuple[str, ...]  # UUIDs of the devices that it is cut into; () where it is whole
    later_ns: int  # of each second, so that not all GPUs of a node are asked for their conditions at once

    @property
    def sensor(self) -> Sensor: ...
    def prepare(self) -> list[Moves]:
        """Asks what it answers, and gives the numbers to be watched for their rhythm: counter and power, in order."""
        ...

    def settle(self, seen: Sequence[Moves]) -> None:
        """Takes what was seen of the numbers that `prepare` gave."""
        ...

    def watch(self, device_uuid: str, pids: Sequence[int]) -> None: ...
    def read(self) -> Reading: ...
    def read_closely(self) -> Reading:
        """The counter alone, or power where there is none: for readings a millisecond apart."""
        ...

    def describe(self) -> str: ...


class GpuMeter:
    """Energy counter and power of whole GPUs, and what else of the node can be read beside them."""

    kind: MeterKind = "measured"
    boundary = "gpu"

    def __init__(
        self,
        name: str,
        device_uuids: tuple[str, ...],
        gpus: Sequence[MeteredGpu],
        others: Sequence[MeteredGpu],
        host: Host,
        close: Callable[[], None],
    ) -> None:
        """Watches for half a second how the numbers of all these GPUs move. `close` gives the library back."""
        self.name = name
        self.device_uuids = device_uuids
        self.covers: Mapping[str, tuple[str, ...]] = {gpu.uuid: gpu.slices or (gpu.uuid,) for gpu in gpus}
        self.surroundings: Mapping[str, Surrounding] = {**{gpu.uuid: "gpu" for gpu in others}, **host.kinds}
        self.close = close
        self._gpus = {gpu.uuid: gpu for gpu in gpus}
        self._all = (*gpus, *others)
        self._host = host
        _probe(self._all)

    @property
    def description(self) -> Mapping[str, str]:
        return {**{gpu.uuid: gpu.describe() for gpu in self._all}, **self._host.description}

    @property
    def sensors(self) -> Mapping[str, Sensor]:
        return {gpu.uuid: gpu.sensor for gpu in self._all}

    def read(self) -> list[Reading]:
        return [gpu.read() for gpu in self._all] + self._host.read()

    def read_closely(self, domains: Iterable[str]) -> list[Reading]:
        """Of these of the covered domains the counter alone, or power where there is none."""
        return [self._gpus[domain].read_closely() for domain in domains]

    def watch(self, device_uuid: str, pids: Sequence[int]) -> None:
        """What else is at work on the device's GPU is counted as foreign."""
        for gpu in self._gpus.values():
            if device_uuid in (gpu.uuid, *gpu.slices):
                gpu.watch(device_uuid, pids)


def _probe(gpus: Sequence[MeteredGpu]) -> None:
    watched = {gpu.uuid: gpu.prepare() for gpu in gpus}
    watch_moves([moves for of_gpu in watched.values() for moves in of_gpu], PROBE_S)
    for place, gpu in enumerate(gpus):
        gpu.settle(watched[gpu.uuid])
        gpu.later_ns = place * CONDITIONS_EVERY_NS // len(gpus)
