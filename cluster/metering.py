"""A node's meter as the study sees it from afar: its name goes with every joule, its domains with every reading."""

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from joulelaw.cluster.power.meter import Meter, MeterKind


@dataclass(frozen=True)
class MeterInfo:
    """What a meter says of itself; see Meter. Plain data, so that it travels between processes."""

    name: str
    kind: MeterKind
    boundary: str
    device_uuids: tuple[str, ...]
    covers: Mapping[str, tuple[str, ...]]
    description: Mapping[str, str]

    @classmethod
    def of(cls, meter: Meter) -> Self:
        covers, description = dict(meter.covers), dict(meter.description)
        return cls(meter.name, meter.kind, meter.boundary, tuple(meter.device_uuids), covers, description)


def new_life() -> str:
    """A name that no other sampler has or will have."""
    return f"{os.getpid()}-{time.monotonic_ns()}"
