"""The processes of a measured command, and their CPU time: those at work now, and those that have ended.

Linux adds the time of a process that ended to the one that waited for it, with that of its own children: so nothing is
missed of processes too short to be seen, and the sum is whole once all have been waited for. What is missed is the
time of a process that cut itself loose (a daemon) before it was first seen, or after it was last.
"""

import os
import resource
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from joulelaw.cluster.power.estimate import EstimateMeter, process_cpu_ns
from joulelaw.cluster.power.meter import Reading

# Processes are looked for so often; a new one's time is not lost, but told with the next look.
LOOK_EVERY_NS = 200_000_000
_NS_PER_TICK = 1_000_000_000 // os.sysconf("SC_CLK_TCK")


class _Stat(NamedTuple):
    """Of /proc/PID/stat; see proc_pid_stat(5)."""

    parent: int
    reaped_ns: int  # CPU time of all children it waited for, in steps of 10 ms
    started: int  # since boot: tells two processes of one number apart


class _Seen(NamedTuple):
    parent: int
    started: int
    used_ns: int


class ProcessTree:
    """This program's children, theirs, and those of them that were cut loose while they were known."""

    def __init__(self, look_every_ns: int = LOOK_EVERY_NS) -> None:
        self._seen: dict[int, _Seen] = {}
        self._look_every_ns = look_every_ns
        self._looked_ns = -look_every_ns
        self._loose_ns = 0  # used by processes that ended without one of the tree waiting for them
        self._most_ns = 0

    def pids(self) -> list[int]:
        """Those at work now, without this program."""
        self._looked_ns = -self._look_every_ns
        self.cpu_ns()
        return list(self._seen)

    def cpu_ns(self) -> int:
        """CPU time that all of them have used, ended ones included. It never falls.

        A process is asked before its children: one that ends meanwhile is missed in this reading, and never counted
        twice.
        """
        now_ns = time.monotonic_ns()
        look = now_ns - self._looked_ns >= self._look_every_ns
        self._looked_ns = now_ns if look else self._looked_ns
        of_children = resource.getrusage(resource.RUSAGE_CHILDREN)
        total_ns = round((of_children.ru_utime + of_children.ru_stime) * 1e9)
        before, self._seen = self._seen, {}
        if look:
            self._walk(children(os.getpid()), {}, look)
        self._walk([pid for pid in before if pid not in self._seen], before, look)  # those cut loose, or all
        family = {os.getpid(), *before}
        ended = [known for pid, known in before.items() if pid not in self._seen]
        self._loose_ns += sum(known.used_ns for known in ended if known.parent not in family)
        total_ns += self._loose_ns + sum(known.used_ns for known in self._seen.values())
        self._most_ns = max(self._most_ns, total_ns)
        return self._most_ns

    def _walk(self, pids: Sequence[int], before: Mapping[int, _Seen], look: bool) -> None:
        """Takes in these processes, and when it looks their children; one in `before` must still be the same."""
        todo = deque(pids)
        while todo:
            pid = todo.popleft()
            stat, own_ns = process_stat(pid), process_cpu_ns(pid)
            if pid in self._seen or stat is None or own_ns is None:
                continue
            if pid in before and before[pid].started != stat.started:
                continue  # another process has its number by now
            self._seen[pid] = _Seen(stat.parent, stat.started, own_ns + stat.reaped_ns)
            if look:
                todo.extend(children(pid))


def children(pid: int) -> list[int]:
    """Of all its threads; none where it has gone, or where the kernel does not list them."""
    found: list[int] = []
    try:
        for listed in Path(f"/proc/{pid}/task").glob("*/children"):
            found += map(int, listed.read_text().split())
    except OSError:
        return found
    return found


def descendants(pid: int) -> list[int]:
    """All that a process has started, and what these have, now."""
    found = children(pid)
    for each in found:  # which grows meanwhile
        found += children(each)
    return found


def process_stat(pid: int) -> _Stat | None:
    """None once it is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()  # the name before it may hold anything
    return _Stat(int(fields[1]), (int(fields[13]) + int(fields[14])) * _NS_PER_TICK, int(fields[19]))


class OwnEstimate(EstimateMeter):
    """CPU seconds × watts per core of this program and all it starts, or (`children_only`) of what it starts alone."""

    def __init__(
        self,
        device_uuids: tuple[str, ...],
        w_per_core: float,
        *,
        children_only: bool = False,
        look_every_ns: int = LOOK_EVERY_NS,
    ) -> None:
        super().__init__(device_uuids, w_per_core)
        self._w = w_per_core
        self._tree = ProcessTree(look_every_ns)
        self._children_only = children_only
        self._marked: list[Reading] = []
        self._guard = threading.Lock()  # the sampler's thread reads while others mark

    def mark(self) -> int:
        """Takes a reading now, which the sampler's next one brings along; returns its time (CLOCK_MONOTONIC, ns)."""
        with self._guard:
            self._marked += self._now()
            return self._marked[-1].time_ns

    def read(self) -> list[Reading]:
        with self._guard:
            marked, self._marked = self._marked, []
            return [*marked, *self._now()]

    def _now(self) -> list[Reading]:
        own_ns = 0 if self._children_only else time.process_time_ns()
        used_j = (own_ns + self._tree.cpu_ns()) / 1e9 * self._w
        now_ns = time.monotonic_ns()
        return [Reading(uuid, now_ns, energy_counter_j=used_j) for uuid in self.device_uuids]
