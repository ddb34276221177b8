"""Ranks on Ray's nodes as the driver has them: an actor holds each device, the node's launcher runs the ranks.

One call to each launcher is always under way that ends when there is news, and what is to be said goes out together: a
turn of the study's loop asks little of Ray, however many ranks a node has.
"""

import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import ray
from ray.exceptions import ActorUnavailableError, RayActorError, RayError

from joulelaw.cluster.failures import Cause
from joulelaw.cluster.ranks import rank_log
from joulelaw.cluster.ranks.node_ranks import Heard, Order
from joulelaw.cluster.ranks.rank import RankSpec
from joulelaw.cluster.ranks.wire import Message
from joulelaw.cluster.raycalls import Call, first_line

_LONG_POLL_S = 10.0
# After an error, so that one that comes at once is not answered by another question at once.
_AGAIN_S = 0.5
# An actor that went with its node: so long the driver waits for what Ray's node table says of it.
_VERDICT_S = 8.0


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

    def hold(self) -> None:
        """Never answers: the call ends with this actor."""
        threading.Event().wait()


class NodeLink:
    """The driver's way to the ranks of one node. `on_news` is called when there is any, in a thread of Ray's."""

    def __init__(self, launcher: Any, on_news: Callable[[], None]) -> None:
        self._launcher = launcher
        self._on_news = on_news
        self._life = ""  # of the launcher; empty before it has told it
        self._launches = 0
        self._orders: list[Order] = []
        self._ordered = 0
        self._heard = 0
        self._ranks: dict[int, list[Message]] = {}  # what came of those that have not ended, by their launch's number
        self._call: Call | None = None
        self._not_before_s = float("-inf")
        self._dead_s: float | None = None

    def launch(self, spec: RankSpec, log_mark: int, inbox: list[Message]) -> int:
        """The number of the launch. The rank's events will come into `inbox`."""
        number, self._launches = self._launches, self._launches + 1
        self._ranks[number] = inbox
        self.order(Order(number, launch=spec, log_mark=log_mark))
        return number

    def order(self, order: Order) -> None:
        """To be told with the next `flush`; not to ranks that have ended."""
        if order.number in self._ranks:
            self._orders.append(order)

    def flush(self) -> None:
        """Tells the node what is to be told, and asks it for news as long as it has ranks."""
        if self._call is None and self._ranks and time.monotonic() >= self._not_before_s:
            answer = self._launcher.listen.remote(self._life, self._heard, _LONG_POLL_S)
            self._call = Call(answer, "a node's ranks", self._on_news)
        if self._orders and self._life:
            self._launcher.obey.remote(self._life, self._ordered, self._orders)
            self._ordered += len(self._orders)
            self._orders = []

    def advance(self) -> None:
        """Takes what has come. Waits for nothing."""
        if self._call is not None and self._call.done:
            call, self._call = self._call, None
            try:
                self._take(call.raw())
            except RayActorError as error:  # out of reach for now, or gone
                self._not_before_s = time.monotonic() + _AGAIN_S
                if not isinstance(error, ActorUnavailableError):
                    self._end_of(error)
            except RayError:
                self._not_before_s = time.monotonic() + _AGAIN_S
        self.flush()

    def _take(self, heard: Heard) -> None:
        self._dead_s = None
        if heard.life != self._life:
            if self._life:
                self._lose_all("was lost with its fork server", Cause.RANK_CRASH)
            self._life, self._ordered, self._heard = heard.life, 0, 0
        self._heard += len(heard.events)
        for number, event in heard.events:
            if number in self._ranks:
                self._ranks[number].append(event)
                if event["kind"] == "exit":
                    del self._ranks[number]

    def _end_of(self, error: RayActorError) -> None:
        """A launcher starts anew unless its node has died, of which the node table says more in a moment."""
        self._dead_s = self._dead_s or time.monotonic()
        if time.monotonic() - self._dead_s >= _VERDICT_S:
            self._lose_all(f"was lost with its node ({first_line(error)})", Cause.NODE_LOST)

    def _lose_all(self, what: str, cause: Cause) -> None:
        for inbox in self._ranks.values():
            inbox.append(_lost(what, cause))
        self._ranks, self._orders = {}, []


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
        self._hold = Call(actor.hold.remote(), "a device", on_news)

    @property
    def is_lost(self) -> bool:
        """Whether its actor is gone, so that no rank can be launched any more."""
        return self._loss is not None or self._is_gone

    def lose(self, what: str, cause: Cause) -> None:
        """Its device is gone."""
        self._loss = _lost(what, cause)
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
        except ActorUnavailableError:  # out of reach for now
            self._hold = Call(self._actor.hold.remote(), "a device", self._on_news)
        except RayError as error:
            self._is_gone = True
            if "its node has died" not in str(error):
                self._loss = _lost(f"was lost with its actor ({first_line(error)})", Cause.RANK_CRASH)

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


def _lost(what: str, cause: Cause) -> Message:
    return {"kind": "exit", "status": 255, "lost": what, "cause": cause}
