"""What Ray says of its nodes, looked at in a thread: the driver's loop never waits for Ray's head, or for a node."""

import contextlib
import errno
import socket
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import ray

from joulelaw.cluster.failures import Cause

LOOK_EVERY_S = 2.0
_KNOCK_S = 2.0
_STOP_S = 5.0
# NodeDeathInfo.Reason (ray, src/ray/protobuf/common.proto): 2 is a node that Ray did not end itself.
_UNEXPECTED = 2
_KNOCKS_AT_ONCE = 64  # a rack that loses its power
_BEFORE = Cause.NODE_LOST, "it was gone before this study began"


@dataclass(frozen=True)
class RayNode:
    """A node in Ray's table: what it offers, its labels, and once it is dead, the cause and words for people."""

    node_id: str
    host: str
    gpus: int
    cpus: float
    labels: Mapping[str, str]
    death: tuple[Cause, str] | None = None


class NodeWatch:
    """Ray's node table, never older than a few seconds while Ray answers. Close it before the connection to Ray."""

    def __init__(self) -> None:
        # Ray remembers up to a thousand dead nodes: none that was dead before is asked why.
        self._deaths = {entry["NodeID"]: _BEFORE for entry in ray.nodes() if not entry["Alive"]}
        self._nodes = self._look()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="node-watch", daemon=True)
        self._thread.start()

    @property
    def nodes(self) -> dict[str, RayNode]:
        """By node id; those that are dead too."""
        return self._nodes

    def close(self) -> None:
        self._closing.set()
        self._thread.join(_STOP_S)

    def _run(self) -> None:
        while not self._closing.wait(LOOK_EVERY_S):
            with contextlib.suppress(Exception):  # Ray does not answer: what it last said stands
                self._nodes = self._look()

    def _look(self) -> dict[str, RayNode]:
        entries = ray.nodes()
        self._judge([entry for entry in entries if not entry["Alive"] and entry["NodeID"] not in self._deaths])
        return {entry["NodeID"]: self._taken(entry) for entry in entries}

    def _judge(self, dead: Sequence[Mapping[str, Any]]) -> None:
        """All at once: nodes that died together keep none of them waiting, nor the news of the others."""
        if dead:
            with ThreadPoolExecutor(min(len(dead), _KNOCKS_AT_ONCE)) as knocking:
                self._deaths.update(zip((entry["NodeID"] for entry in dead), knocking.map(death_of, dead), strict=True))

    def _taken(self, entry: Mapping[str, Any]) -> RayNode:
        offered = entry["Resources"]
        return RayNode(
            node_id=entry["NodeID"],
            host=entry["NodeManagerHostname"],
            gpus=int(offered.get("GPU", 0)),
            cpus=offered.get("CPU", 0.0),
            labels=entry.get("Labels", {}),
            death=self._deaths.get(entry["NodeID"]),
        )


def death_of(entry: Mapping[str, Any]) -> tuple[Cause, str]:
    """Why a node is dead. Ray says the same of a raylet that was killed and of one that is out of reach ("missing too
    many heartbeats"), so that its port is tried: a machine that answers, even to refuse, has not lost its network.
    """
    said = entry.get("DeathReasonMessage") or "no reason given"
    if entry.get("DeathReason") != _UNEXPECTED:
        return Cause.NODE_LOST, f"Ray ended there ({said})"
    if answers(entry["NodeManagerAddress"], entry["NodeManagerPort"]):
        return Cause.NODE_LOST, f"its Ray died: the machine answers, the raylet does not ({said})"
    return Cause.NETWORK_CUT, f"it does not answer: its network is cut, or the machine is off ({said})"


def answers(host: str, port: int) -> bool:
    """Whether the machine at this address answers, be it to refuse: a reset comes from a machine that is there."""
    try:
        socket.create_connection((host, port), timeout=_KNOCK_S).close()
    except OSError as error:
        return error.errno in (errno.ECONNREFUSED, errno.ECONNRESET)
    return True
