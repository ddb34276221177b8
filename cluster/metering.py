"""A node's meter as the study sees it from afar: its name goes with every joule, its domains with every reading."""

import os
import time
from collections.abc import Callable, Mapping
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


@dataclass(frozen=True)
class ClockOffset:
    """How far a node's CLOCK_MONOTONIC is ahead of the driver's, in ns, and by how much that may be off."""

    offset_ns: int
    error_ns: int


HERE = ClockOffset(0, 0)
# A round trip between processes takes half a millisecond; now and then one takes ten times as long.
_ASKS = 7


def clock_offset(
    ask_ns: Callable[[], int], own_ns: Callable[[], int] = time.monotonic_ns, asks: int = _ASKS
) -> ClockOffset:
    """A node's clock against one's own, from the shortest of several round trips (Cristian 1989).

    `ask_ns` answers with the node's clock. It was read somewhere within the round trip, so the middle is off by at most
    half of it.
    """
    found = []
    for _ in range(asks):
        asked_ns = own_ns()
        node_ns = ask_ns()
        heard_ns = own_ns()
        found.append(ClockOffset(node_ns - (asked_ns + heard_ns) // 2, (heard_ns - asked_ns + 1) // 2))
    return min(found, key=lambda each: each.error_ns)


def new_life() -> str:
    """A name that no other sampler has or will have."""
    return f"{os.getpid()}-{time.monotonic_ns()}"
