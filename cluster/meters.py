"""The samplers of all nodes as the driver sees them: drained without waiting, and found out when one was lost."""

import contextlib
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import pyarrow as pa
import ray
from ray.exceptions import RayError

from joulelaw.cluster.failures import ClusterError
from joulelaw.cluster.metering import ClockOffset, MeterInfo, clock_offset
from joulelaw.cluster.raycalls import fetch

_ANSWER_S = 60.0
_DRAIN_S = 1.0
_WATCH_S = 1.0
# One that has not answered for so long counts as lost; Ray needs some seconds to start it anew.
_SILENT_S = 1.5


class NodeMeters:
    """Sampler actors by node id. Ray starts a killed one anew: its counters may begin again, its ranks are unknown."""

    def __init__(self, samplers: Mapping[str, Any]) -> None:
        self._samplers = dict(samplers)
        self._infos: dict[str, MeterInfo] = {}
        self._lives: dict[str, str] = {}
        self._losses = dict.fromkeys(samplers, 0)
        self._watched: dict[str, dict[str, list[int]]] = {node_id: {} for node_id in samplers}
        self._drains: dict[str, tuple[float, Any]] = {}

    @property
    def infos(self) -> dict[str, MeterInfo]:
        """What reads each node's power, asked once. InputError if the meter asked for cannot be opened there."""
        if not self._infos:
            asked = [sampler.info.remote() for sampler in self._samplers.values()]
            answers = fetch(asked, _ANSWER_S, "opening the meters")
            self._lives = {node_id: life for node_id, (life, _) in zip(self._samplers, answers, strict=True)}
            self._infos = {node_id: info for node_id, (_, info) in zip(self._samplers, answers, strict=True)}
        return self._infos

    @property
    def losses(self) -> dict[str, int]:
        """How often each node's sampler was lost so far; one that does not answer now is one more."""
        now_s = time.monotonic()
        silent = {node_id for node_id, (asked_s, _) in self._drains.items() if now_s - asked_s > _SILENT_S}
        return {node_id: count + (node_id in silent) for node_id, count in self._losses.items()}

    def drain(self) -> dict[str, pa.RecordBatch]:
        """New readings by node id. Waits at most a second; a node that does not answer is not asked a second time, and
        not waited for again."""
        for node_id, sampler in self._samplers.items():
            if node_id not in self._drains:
                self._drains[node_id] = (time.monotonic(), sampler.drain.remote())
        asked = [reference for _, reference in self._drains.values()]
        fresh = sum(time.monotonic() - asked_s <= _SILENT_S for asked_s, _ in self._drains.values())
        ready, _ = ray.wait(asked, num_returns=len(asked), timeout=0)
        if len(ready) < fresh:
            ready, _ = ray.wait(asked, num_returns=fresh, timeout=_DRAIN_S)
        readings = {}
        for node_id, (_, reference) in list(self._drains.items()):
            if reference in ready:
                del self._drains[node_id]
                with contextlib.suppress(RayError):  # a lost sampler leaves a gap, which the energy's verdict sees
                    life, new = ray.get(reference)
                    self._note_life(node_id, life)
                    readings[node_id] = new
        return readings

    def clock_offsets(self) -> dict[str, ClockOffset]:
        """By node id; without those whose sampler does not answer."""
        found = {}
        for node_id, sampler in self._samplers.items():
            with contextlib.suppress(ClusterError):
                found[node_id] = clock_offset(partial(_clock_ns, sampler))
        return found

    def watch(self, node_id: str, device_uuid: str, pids: Sequence[int]) -> bool:
        """Tells a node's meter which processes work on a device; whether it has answered that it knows."""
        self._watched[node_id][device_uuid] = list(pids)
        try:
            fetch(
                [self._samplers[node_id].watch.remote(device_uuid, list(pids))], _WATCH_S, "telling the meter of ranks"
            )
        except ClusterError:
            return False
        return True

    def _note_life(self, node_id: str, life: str) -> None:
        """A sampler of another life has taken the place of a lost one: it is told of the ranks at work."""
        if self._lives.setdefault(node_id, life) == life:
            return
        self._lives[node_id] = life
        self._losses[node_id] += 1
        for device_uuid, pids in self._watched[node_id].items():
            self._samplers[node_id].watch.remote(device_uuid, pids)


def _clock_ns(sampler: Any) -> int:
    [node_ns] = fetch([sampler.clock_ns.remote()], _WATCH_S, "asking for a node's clock")
    return int(node_ns)
