"""What a session knows of the links of each set of devices: its first trial probes them, the others need not."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class LinkFacts:
    """Of a group: see `link_probe.probe_links`. Rates in bytes/s, one direction, per device."""

    transport: str | None = None
    probed_link_bytes_per_s: float | None = None
    probed_network_bytes_per_s: float | None = None


NOTHING = LinkFacts()


class ProbedLinks:
    """By set of devices. A trial whose set is not known yet is started with ``"probe": True`` in its payload."""

    def __init__(self) -> None:
        self._facts: dict[frozenset[str], LinkFacts] = {}

    def missing(self, device_uuids: Iterable[str]) -> bool:
        """Whether a trial on these devices is to probe: there are several, and none did before."""
        devices = frozenset(device_uuids)
        return len(devices) > 1 and devices not in self._facts

    def take(self, device_uuids: Iterable[str], event: Mapping[str, Any]) -> None:
        """Keeps what the trial's `links` event told."""
        names = LinkFacts.__dataclass_fields__
        self._facts[frozenset(device_uuids)] = LinkFacts(**{name: event[name] for name in names})

    def of(self, device_uuids: Iterable[str]) -> LinkFacts:
        """What is known; nothing of a single device or of one that never got so far."""
        return self._facts.get(frozenset(device_uuids), NOTHING)
