"""The meter of NVIDIA GPUs: those asked for, and beside them the node's others, its packages and its DRAM."""

from collections.abc import Callable, Iterable, Mapping, Sequence

from joulelaw.cluster.power.meter import MeterKind, Reading, Surrounding
from joulelaw.cluster.power.moves import watch_moves
from joulelaw.cluster.power.nvml_gpu import CONDITIONS_EVERY_NS, NvmlGpu
from joulelaw.cluster.power.rapl_zones import Host
from joulelaw.cluster.power.sensor import Sensor

PROBE_S = 0.5  # for all GPUs of the node together


class NvmlMeter:
    """Energy counter and power of whole GPUs, and what else of the node can be read. Made by `open_nvml`."""

    name = "nvml"
    kind: MeterKind = "measured"
    boundary = "gpu"

    def __init__(
        self,
        device_uuids: tuple[str, ...],
        gpus: Sequence[NvmlGpu],
        others: Sequence[NvmlGpu],
        host: Host,
        close: Callable[[], None],
    ) -> None:
        """Watches for half a second how the numbers of all these GPUs move. `close` gives NVML back."""
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


def _probe(gpus: Sequence[NvmlGpu]) -> None:
    watched = {gpu.uuid: gpu.prepare() for gpu in gpus}
    watch_moves([moves for of_gpu in watched.values() for moves in of_gpu], PROBE_S)
    for place, gpu in enumerate(gpus):
        gpu.settle(watched[gpu.uuid])
        gpu.later_ns = place * CONDITIONS_EVERY_NS // len(gpus)
