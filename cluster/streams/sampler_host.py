"""The actor on every node that owns its meter: it reads, and keeps what was read until the driver has it."""

import contextlib
import time
from collections.abc import Mapping, Sequence

from joulelaw import InputError
from joulelaw.cluster.nodes.inventory import Device
from joulelaw.cluster.power.meter import MeterOptions, open_meter
from joulelaw.cluster.power.sampler import CAPACITY, Sampler
from joulelaw.cluster.ranks.launcher import usual_priority
from joulelaw.cluster.streams.metering import Drained, MeterInfo, new_life, readings_batch, to_bytes
from joulelaw.cluster.streams.outbox import Outbox

# A reading takes a moment, and one that comes late leaves a gap: on a busy node it goes before what keeps it busy.
_AHEAD = 10


class SamplerHost:
    """Reads its node's meter until it is stopped. Holds no GPU and makes no CUDA context.

    Each answer bears the name of its life: one that Ray starts anew after a kill knows nothing of what was. Questions
    may be lost, come twice, late, or in another order: they are answered so that nothing is lost by it.
    """

    def __init__(self, devices: Sequence[Device], options: MeterOptions) -> None:
        self._life = new_life()
        usual_priority(ahead=_AHEAD)
        self._devices, self._options = devices, options
        self._outbox = Outbox(CAPACITY)
        self._watched: tuple[int, Mapping[str, Sequence[int]]] = 0, {}
        self._sampler: Sampler | None = None
        with contextlib.suppress(InputError):  # told by info(): Ray would hide it in "the actor died"
            self._open()

    def info(self) -> tuple[str, MeterInfo]:
        return self._life, MeterInfo.of(self._open().meter)

    def _open(self) -> Sampler:
        """What could not be opened may be later: a host that starts anew while a driver recovers stays not blind."""
        if self._sampler is None:
            self._sampler = Sampler(open_meter(self._devices, self._options), self._options.rate_hz)
        return self._sampler

    def drain(self, life: str, number: int) -> Drained:
        """All that was read since lot `number` of this `life`, which the driver has, and all before it.

        InputError where the meter cannot be opened: the driver then takes the node for silent, and asks again.
        """
        if life == self._life:
            self._outbox.acknowledge(number)
        sampler = self._open()
        self._outbox.put(readings_batch(sampler.meter.name, sampler.drain()))
        dropped = self._outbox.dropped + sampler.dropped
        return Drained(self._life, self._outbox.number, to_bytes(self._outbox.waiting()), dropped)

    def clock_ns(self) -> int:
        """This node's CLOCK_MONOTONIC, which its readings are stamped with."""
        return time.monotonic_ns()

    def watch(self, number: int, pids: Mapping[str, Sequence[int]]) -> tuple[str, int]:
        """Tells the meter which processes are at work, by device; the newest call, by its number, counts."""
        newest, watched = self._watched
        if self._sampler is not None and number > newest:
            self._watched = number, pids
            for device_uuid in pids:
                if watched.get(device_uuid) != pids[device_uuid]:
                    self._sampler.watch(device_uuid, pids[device_uuid])
        return self._life, self._watched[0]

    def stop(self) -> None:
        if self._sampler is not None:
            self._sampler.stop()
