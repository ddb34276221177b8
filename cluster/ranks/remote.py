"""A device on a Ray node as the driver has it: an actor holds it, and its ranks are run by the node's launcher."""

import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import ray
from ray.exceptions import ActorUnavailableError, RayError

from joulelaw.cluster.failures import Cause
from joulelaw.cluster.ranks import rank_log
from joulelaw.cluster.ranks.node_link import NodeLink, lost
from joulelaw.cluster.ranks.node_ranks import Order
from joulelaw.cluster.ranks.rank import RankSpec
from joulelaw.cluster.ranks.wire import Message
from joulelaw.cluster.raycalls import Call, first_line

# A worker that is told to end waits for its calls: one without an end would keep it, and its device, for ever.
_HOLD_S = 10.0


@dataclass(frozen=True)
class Place:
    """Where Ray put a RankHost: its node's address, the network interface that has it, and the GPU granted there."""

    host: str
    interface: str
    gpu_id: str


class RankHost:
    """The actor that has a device of Ray's for the study's ranks: it does nothing but be there."""

    def place(self) -> Place:
        (gpu_id,) = ray.get_gpu_ids()
        host = str(ray.util.get_node_ip_address())
        return Place(host, interface_of(host), str(gpu_id))

    def hold(self, wait_s: float) -> None:
        """Waits: the call fails when this actor ends before."""
        time.sleep(wait_s)


class RemoteRank:
    """The driver's handle on the ranks of a device that an actor holds. `folders` says what folders of this machine are
    called on its node."""

    def __init__(self, actor: Any, link: NodeLink, on_news: Callable[[], None], folders: Mapping[str, str]) -> None:
        self._actor, self._link, self._on_news, self._folders = actor, link, on_news, folders
        self._number = -1
        self._inbox: list[Message] = []
        self._runs = False
        self._loss: Message | None = None
        self._is_gone = False
        self._hold = self._asked_to_hold()

    @property
    def is_lost(self) -> bool:
        """Whether its actor is gone, so that no rank can be launched any more."""
        return self._loss is not None or self._is_gone

    def lose(self, what: str, cause: Cause) -> None:
        """Its device is gone."""
        self._loss = lost(what, cause)
        self._on_news()

    def launch(self, spec: RankSpec) -> None:
        mark = rank_log.folder_mark(Path(spec.log_path).parent)
        self._inbox, self._runs = [], True
        if self._loss is None:
            self._number = self._link.launch(self._translated(spec), mark, self._inbox)

    def poll(self) -> list[Message]:
        if not self._runs:
            return []
        self._link.advance()
        self.look()
        if self._loss is not None:
            self.kill()
            self.flush()
            self._inbox.append(self._loss)
        events = self._inbox[:]
        self._inbox.clear()
        self._runs = not any(event["kind"] == "exit" for event in events)
        return events

    def send(self, message: Message) -> None:
        self._link.order(Order(self._number, message=message))

    def kill(self) -> None:
        self._link.order(Order(self._number))

    def flush(self) -> None:
        self._link.flush()

    def look(self) -> None:
        """Takes note of its actor's end: killed alone, by somebody, or with its node, of which others tell."""
        if self.is_lost or not self._hold.done:
            return
        try:
            self._hold.raw()
        except RayError as error:
            if not isinstance(error, ActorUnavailableError):  # else it is out of reach for now
                self._note_end(error)
                return
        self._hold = self._asked_to_hold()

    def _note_end(self, error: RayError) -> None:
        self._is_gone = True
        if "its node has died" not in str(error):
            self._loss = lost(f"was lost with its actor ({first_line(error)})", Cause.RANK_CRASH)

    def _asked_to_hold(self) -> Call:
        """The call that tells of the actor's end; that it is over is no news."""
        return Call(self._actor.hold.remote(_HOLD_S), "a device")

    def _translated(self, spec: RankSpec) -> RankSpec:
        payload = {
            key: self._folders.get(each, each) if isinstance(each, str) else each for key, each in spec.payload.items()
        }
        return replace(spec, payload=payload)


def interface_of(address: str) -> str:
    """The network interface of this machine that has an address; empty where none has."""
    for name, addresses in psutil.net_if_addrs().items():
        if any(each.family in (socket.AF_INET, socket.AF_INET6) and each.address == address for each in addresses):
            return name
    return ""
