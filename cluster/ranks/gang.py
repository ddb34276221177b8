"""A gang: the ranks of one trial as a whole. They start together, and one that fails takes the others along.

The rules are here once; where a rank's process runs (this machine, or a Ray node) is its handle's business.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Protocol

from joulelaw.cluster.failures import Cause, ClusterError
from joulelaw.cluster.nodes.inventory import Device
from joulelaw.cluster.ranks.rank import RankSpec
from joulelaw.cluster.ranks.rank_failures import BadEnd, RankFailure, cause_of, describe_failures, of_error, of_exit
from joulelaw.cluster.ranks.wire import Message

_STOP_POLL_S = 0.005


class GangState(Enum):
    """IDLE before the first start; DONE once every rank left with 0; FAILED once every rank is gone and one failed."""

    IDLE = "idle"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


class Gang(Protocol):
    """What a study sees of a group of devices: it runs one trial after another on it."""

    @property
    def devices(self) -> tuple[Device, ...]: ...
    @property
    def node_ids(self) -> tuple[str, ...]: ...
    @property
    def state(self) -> GangState: ...
    @property
    def failure(self) -> str: ...
    @property
    def cause(self) -> Cause | None:
        """What its failure comes from; None where it has none, or was ended from here."""
        ...

    @property
    def log_ends(self) -> Mapping[int, str]:
        """The end of the log of each rank that wrote it out of the driver's reach, by rank."""
        ...

    @property
    def failures(self) -> tuple[RankFailure, ...]: ...
    @property
    def pids(self) -> dict[int, tuple[str, int]]: ...
    def start(
        self, entry: str, payload: dict[str, Any], log_dir: Path, env: Mapping[str, str] | None = None
    ) -> None: ...
    def poll(self) -> list[Message]: ...
    def tell(self, message: Message) -> None: ...
    def kill(self) -> None: ...
    def stop(self) -> None: ...


class RankHandle(Protocol):
    """One rank's process, wherever it runs. No method waits for the rank; ends arrive as "exit" events.

    What it is told may wait for what others are told, until the next `flush` or `poll`.
    """

    def launch(self, spec: RankSpec) -> None: ...
    def poll(self) -> list[Message]: ...
    def send(self, message: Message) -> None: ...
    def kill(self) -> None: ...
    def flush(self) -> None: ...


@dataclass(frozen=True)
class Seat:
    """A rank's place: its device, the node it is on, that node's address for the others, and the way to it.

    `interface` is the network interface there that has this address.
    """

    device: Device
    node_id: str
    host: str
    handle: RankHandle
    interface: str = ""


@dataclass(frozen=True)
class GangLimits:
    """How long a gang may take, in seconds.

    `start_s` until every rank is "ready"; `hang_s` without any event of a rank after that; `grace_s` between the first
    failure and the killing of the others, in which they may tell their side; `stop_s` for killed ranks to be gone.
    """

    start_s: float = 300.0
    hang_s: float = 300.0
    grace_s: float = 0.5
    stop_s: float = 10.0


class RankGang:
    """The Gang over any seats, listed by rank; the ranks of a node next to each other."""

    def __init__(self, seats: Sequence[Seat], limits: GangLimits | None = None) -> None:
        self.devices = tuple(seat.device for seat in seats)
        self.node_ids = tuple(dict.fromkeys(seat.node_id for seat in seats))
        self.healthy = True  # False once a rank could not be brought to an end: its devices may still be in use
        self._seats = tuple(seats)
        self._limits = limits or GangLimits()
        self._undelivered: list[Message] = []
        self._reset(GangState.IDLE)

    def _reset(self, state: GangState) -> None:
        self.state = state
        self.failure = ""
        self.pids: dict[int, tuple[str, int]] = {}
        self.log_ends: dict[int, str] = {}
        self._logs: dict[int, str] = {}
        self._exited: set[int] = set()
        self._ready: set[int] = set()
        self._failures: list[RankFailure] = []
        self._heard_s = dict.fromkeys(range(len(self._seats)), time.monotonic())
        self._started_s = time.monotonic()
        self._failed_s: float | None = None
        self._killed_s: float | None = None

    @property
    def failures(self) -> tuple[RankFailure, ...]:
        return tuple(self._failures)

    @property
    def cause(self) -> Cause | None:
        return cause_of(self._failures, len(self.node_ids))

    def start(self, entry: str, payload: dict[str, Any], log_dir: Path, env: Mapping[str, str] | None = None) -> None:
        """Starts `entry` ("module:function") on every seat, each with its log `rank<k>.log` in `log_dir`."""
        if self.state is GangState.RUNNING:
            raise ClusterError("this gang still runs: stop it before the next start")
        if not self.healthy:
            raise ClusterError("ranks of this gang could not be ended: release it and acquire another group")
        self._undelivered = []
        self._reset(GangState.RUNNING)
        for rank in range(len(self._seats)):
            spec = self._spec(rank, entry, payload, log_dir, dict(env or {}))
            self._logs[rank] = str(log_dir / f"rank{rank}.log")
            try:
                self._seats[rank].handle.launch(spec)
            except BaseException:
                self._exited.update(range(rank, len(self._seats)))
                self.stop()
                raise
        self._flush()

    def _spec(self, rank: int, entry: str, payload: dict[str, Any], log_dir: Path, env: dict[str, str]) -> RankSpec:
        seat = self._seats[rank]
        local = [i for i, other in enumerate(self._seats) if other.node_id == seat.node_id]
        alone = len(self.node_ids) == 1
        # Each rank sees all of its group's GPUs on its node and picks by local_rank: NCCL needs that for peer access.
        visible = ",".join(self.devices[i].uuid for i in local if self.devices[i].kind == "cuda")
        defaults = {"CUDA_VISIBLE_DEVICES": visible, **({"GLOO_SOCKET_IFNAME": "lo"} if alone else _sockets(seat))}
        return RankSpec(
            entry=entry,
            payload=payload,
            rank=rank,
            world_size=len(self._seats),
            local_rank=local.index(rank),
            local_world_size=len(local),
            device=seat.device,
            env={**defaults, **env},
            log_path=str(log_dir.absolute() / f"rank{rank}.log"),  # a fork server works in another folder
            host="127.0.0.1" if alone else seat.host,
        )

    def poll(self) -> list[Message]:
        """The new events of all ranks, each with its "rank" and "node"; moves the state on. Does not wait."""
        events, self._undelivered = self._undelivered, []
        for rank, seat in enumerate(self._seats):
            if rank in self._exited or self.state is not GangState.RUNNING:
                continue
            for event in seat.handle.poll():
                event = {**event, "rank": rank, "node": seat.node_id}
                events.append(event)
                self._take(rank, event)
        if self.state is GangState.RUNNING:
            self._watch_time()
            self._settle()
        return events

    def tell(self, message: Message) -> None:
        """Sends a message to every rank's `receive`; those that are gone do not get it."""
        for rank, seat in enumerate(self._seats):
            if rank not in self._exited:
                seat.handle.send(message)
        self._flush()

    def _flush(self) -> None:
        for seat in self._seats:
            seat.handle.flush()

    def kill(self) -> None:
        """Kills every rank and does not wait: polls tell the end, after `stop_s` also where ranks are out of reach."""
        if self.state is GangState.RUNNING and self._killed_s is None:
            self._kill_all()

    def stop(self) -> None:
        """Kills every rank and waits until all are gone, at most `stop_s`. The next poll() has their last events."""
        self.kill()
        while self.state is GangState.RUNNING:
            self._undelivered = self.poll()
            time.sleep(_STOP_POLL_S)

    def _take(self, rank: int, event: Message) -> None:
        """What one event changes."""
        self._heard_s[rank] = time.monotonic()
        match event["kind"]:
            case "started":
                self.pids[rank] = (event["node"], event["pid"])
            case "rendezvous":
                for other, seat in enumerate(self._seats):
                    if other != rank:
                        seat.handle.send({"kind": "rendezvous", "address": event["address"]})
                self._flush()
            case "ready":
                self._ready.add(rank)
            case "error":
                self._fail(rank, of_error(event), event.get("time_ns", 0))
            case "exit":
                self._exited.add(rank)
                self._take_exit(rank, event)

    def _take_exit(self, rank: int, event: Message) -> None:
        if event.get("log"):
            self.log_ends[rank] = event["log"]
        end = of_exit(event)
        told = any(failure.rank == rank for failure in self._failures)
        if end is not None and not (event["status"] > 0 and not event.get("lost") and told):
            self._fail(rank, end, event.get("time_ns", 0))

    def _fail(self, rank: int, end: BadEnd, time_ns: int = 0) -> None:
        if self._killed_s is not None:
            return  # by our own hand
        self._failed_s = self._failed_s or time.monotonic()
        node, log = self._seats[rank].node_id, self._logs.get(rank, "")
        self._failures.append(RankFailure(rank, node, end.cause, end.what, log, time_ns, end.of_peers, end.of_host))

    def _watch_time(self) -> None:
        """Ranks that are not ready in time, or silent for too long, have failed."""
        now = time.monotonic()
        if self._failed_s is not None or self._killed_s is not None:
            return
        running = [rank for rank in range(len(self._seats)) if rank not in self._exited]
        unready = [rank for rank in running if rank not in self._ready]
        if unready:
            if now - self._started_s > self._limits.start_s:
                for rank in unready:
                    what = f"was not ready within {self._limits.start_s:g} s"
                    self._fail(rank, BadEnd(Cause.START_TIMEOUT, what))
            return
        for rank in running:
            if now - self._heard_s[rank] > self._limits.hang_s:
                what = f"took no step and gave no other sign of life for {self._limits.hang_s:g} s"
                self._fail(rank, BadEnd(Cause.HANG, what))

    def _settle(self) -> None:
        """Kills the others after a failure, and tells the end once every rank is gone."""
        now = time.monotonic()
        gone = len(self._exited) == len(self._seats)
        if not gone and self._killed_s is None and self._failed_s and now - self._failed_s >= self._limits.grace_s:
            self._kill_all()
        if not gone and self._killed_s is not None and now - self._killed_s > self._limits.stop_s:
            self.healthy = False
            gone = True
        if gone:
            bad = bool(self._failures) or self._killed_s is not None
            self.state = GangState.FAILED if bad else GangState.DONE
            self.failure = describe_failures(self._failures) or ("stopped" if bad else "")

    def _kill_all(self) -> None:
        self._killed_s = time.monotonic()
        for rank, seat in enumerate(self._seats):
            if rank not in self._exited:
                seat.handle.kill()
        self._flush()


def _sockets(seat: Seat) -> dict[str, str]:
    """Over several nodes the libraries talk where the other nodes reach this one, and do not guess.

    "=" asks NCCL for this very interface, not for all whose names begin so (NCCL's list of environment variables).
    """
    if not seat.interface:
        return {}
    return {"GLOO_SOCKET_IFNAME": seat.interface, "NCCL_SOCKET_IFNAME": f"={seat.interface}"}
