"""A node's meter as the study sees it from afar: its name goes with every joule, its readings travel as columns."""

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Self

import pyarrow as pa

from joulelaw.cluster.power.meter import Meter, MeterKind, Reading, Surrounding
from joulelaw.cluster.power.sensor import Sensor

# What a sampler sends, a reading a row, as in the `power` table. In ns of the node's CLOCK_MONOTONIC, W, J, degC, MHz.
READINGS = pa.schema(
    [
        ("device_uuid", pa.string()),
        ("meter", pa.string()),
        ("time_ns", pa.int64()),
        ("power_w", pa.float64()),
        ("energy_counter_j", pa.float64()),
        ("temperature_c", pa.float64()),
        ("clock_mhz", pa.float64()),
        ("throttle", pa.int64()),
        ("foreign_processes", pa.int32()),
        ("error", pa.string()),
    ]
)


def readings_batch(meter: str, readings: Sequence[Reading]) -> pa.RecordBatch:
    """Readings of one meter, of this name, as columns of READINGS."""
    columns = [
        pa.repeat(pa.scalar(meter, field.type), len(readings))
        if field.name == "meter"
        else pa.array([getattr(reading, field.name) for reading in readings], field.type)
        for field in READINGS
    ]
    return pa.record_batch(columns, schema=READINGS)


def to_bytes(readings: pa.RecordBatch) -> bytes:
    """As they travel: Arrow's stream format, a third cheaper to take in than a pickle of the same columns."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, READINGS) as stream:
        stream.write_batch(readings)
    sent: bytes = sink.getvalue().to_pybytes()
    return sent


def from_bytes(sent: bytes) -> pa.RecordBatch:
    """The readings in `to_bytes`."""
    return pa.ipc.open_stream(sent).read_next_batch()


class Drained(NamedTuple):
    """A sampler's answer: what it has read since the lot that the question acknowledged."""

    life: str
    number: int
    """Of the last lot in `readings`: to be acknowledged by the next question."""
    readings: bytes
    dropped: int
    """How many readings this sampler has had to drop, as nobody fetched them for too long."""


@dataclass(frozen=True)
class MeterInfo:
    """What a meter says of itself; see Meter. Plain data, so that it travels between processes."""

    name: str
    kind: MeterKind
    boundary: str
    device_uuids: tuple[str, ...]
    covers: Mapping[str, tuple[str, ...]]
    description: Mapping[str, str]
    sensors: Mapping[str, Sensor] = field(default_factory=dict)
    surroundings: Mapping[str, Surrounding] = field(default_factory=dict)

    @classmethod
    def of(cls, meter: Meter) -> Self:
        return cls(
            meter.name,
            meter.kind,
            meter.boundary,
            tuple(meter.device_uuids),
            dict(meter.covers),
            dict(meter.description),
            dict(meter.sensors),
            dict(meter.surroundings),
        )


class MeteredDevice(NamedTuple):
    """Whose power it is, and which meter told it: an estimate is not to pass for a measurement."""

    gpu_model: str
    device_uuid: str
    node: str
    meter: str
    meter_kind: str


class EnergyMeter(NamedTuple):
    """Which meter joules come from, and what kind of number they are."""

    meter: str
    meter_kind: str


@dataclass(frozen=True)
class ClockOffset:
    """How far a node's CLOCK_MONOTONIC is ahead of the driver's, in ns, and by how much that may be off."""

    offset_ns: int
    error_ns: int


HERE = ClockOffset(0, 0)


def new_life() -> str:
    """A name that no other sampler has or will have: each sampler that is started is another life."""
    return f"{os.getpid()}-{time.monotonic_ns()}"
