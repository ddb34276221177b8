"""The actor on every node that owns its meter: it reads, and keeps what was read until the driver has it."""

import time
from collections.abc import Sequence

import pyarrow as pa

from joulelaw import InputError
from joulelaw.cluster.failures import ClusterError
from joulelaw.cluster.inventory import Device
from joulelaw.cluster.metering import MeterInfo, new_life, readings_batch
from joulelaw.cluster.nodes import usual_priority
from joulelaw.cluster.power.meter import MeterOptions, open_meter
from joulelaw.cluster.power.sampler import Sampler


class SamplerHost:
    """Reads its node's meter until it is stopped. Holds no GPU and makes no CUDA context.

    Each answer bears the name of its life: one that Ray starts anew after a kill knows nothing of what was.
    """

    def __init__(self, devices: Sequence[Device], options: MeterOptions) -> None:
        self._life = new_life()
        usual_priority()
        self._sampler: Sampler | None = None
        self._problem: InputError | None = None
        try:
            self._sampler = Sampler(open_meter(devices, options), options.rate_hz)
        except InputError as problem:  # told by info(): Ray would hide it in "the actor died"
            self._problem = problem

    def info(self) -> tuple[str, MeterInfo]:
        if self._sampler is None:
            raise self._problem or ClusterError("the sampler was stopped")
        return self._life, MeterInfo.of(self._sampler.meter)

    def drain(self) -> tuple[str, pa.RecordBatch]:
        """The readings since the last call, as columns of READINGS."""
        if self._sampler is None:
            return self._life, readings_batch("", [])
        return self._life, readings_batch(self._sampler.meter.name, self._sampler.drain())

    def clock_ns(self) -> int:
        """This node's CLOCK_MONOTONIC, which its readings are stamped with."""
        return time.monotonic_ns()

    def watch(self, device_uuid: str, pids: Sequence[int]) -> None:
        if self._sampler:
            self._sampler.watch(device_uuid, pids)

    def stop(self) -> None:
        if self._sampler is not None:
            self._sampler.stop()
