"""A node's meter as the study sees it from afar: its name goes with every joule, its domains with every reading."""

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

from joulelaw.cluster.power.meter import Meter, MeterKind, Surrounding
from joulelaw.cluster.power.sensor import Sensor


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


def new_life() -> str:
    """A name that no other sampler has or will have."""
    return f"{os.getpid()}-{time.monotonic_ns()}"
