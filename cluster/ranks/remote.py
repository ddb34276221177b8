"""Ranks on Ray's nodes: one RankHost actor holds a device, and asks the node's fork server for ranks.

A link that drops for a while loses nothing: Ray repeats calls whose answer did not come, the actor does each thing
once, and keeps what it has told until the driver asks for what follows.
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
from joulelaw.cluster.ranks.rank import RankProcess, RankSpec
from joulelaw.cluster.ranks.wire import Message
from joulelaw.cluster.raycalls import Call, fetch, first_line

_LONG_POLL_S = 10.0
_FIRST_POLL_S = 1.0  # until then a rank can be told nothing, nor killed
_SERVER_S = 180.0  # torch, transformers and deepspeed from a cold disk
_TOGETHER_S = 0.003
# An actor that went with its node: so long the driver waits for what Ray's node table says of it.
_VERDICT_S = 8.0


@dataclass(frozen=True)
class Place:
    """Where Ray put a RankHost: its node's address, the network interface that has it, and the GPU granted there."""

    host: str
    interface: str
    gpu_id: str


class RankHost:
    """The actor. Several calls run at once in it: `poll` waits inside for events, without using the processor.

    A rank is known by the `number` of its launch; its events are numbered too.
    """

    def __init__(self, launcher: Any) -> None:
        self._launcher = launcher
        self._server: str | None = None
        self._process = RankProcess()
        self._number = -1
        self._kept: list[Message] = []  # events that the driver may not have yet; the first is number `_first`
        self._first = 0
        self._sent = 0
        self._early: dict[int, Message] = {}
        self._telling = threading.Lock()
        self._log: Path | None = None
        self._one_at_a_time = threading.Lock()

    def place(self) -> Place:
        (gpu_id,) = ray.get_gpu_ids()
        host = str(ray.util.get_node_ip_address())
        return Place(host, interface_of(host), str(gpu_id))

    def launch(self, number: int, spec: RankSpec, log_mark: int, wait_s: float) -> list[Message]:
        """Asks for the process, and answers as the first `poll`. ForkServerError where it cannot be had."""
        with self._one_at_a_time:
            if number > self._number:
                self._number, self._kept, self._first = number, [], 0
                self._sent, self._early = 0, {}
                if self._server is None or not self._launched(self._server, spec, log_mark):
                    # The launcher starts a fork server anew that has died.
                    (self._server,) = fetch([self._launcher.address.remote()], _SERVER_S, "starting a fork server")
                    self._launched(self._server, spec, log_mark)
        return self.poll(number, 0, wait_s)

    def _launched(self, server: str, spec: RankSpec, log_mark: int) -> bool:
        spec, self._log = rank_log.placed(spec, log_mark, Path(server).parent, self._number)
        return self._process.launch(server, spec)

    def poll(self, number: int, first: int, wait_s: float) -> list[Message]:
        """The events of a launch from number `first` on; those before are not asked for again."""
        with self._one_at_a_time:
            if number != self._number:
                return []
            del self._kept[: max(0, first - self._first)]
            self._first = max(first, self._first)
            new = self._process.poll(0.0 if self._kept else wait_s)
            if new and new[-1]["kind"] != "exit":  # what comes with it needs no answer of its own
                time.sleep(_TOGETHER_S)
                new += self._process.poll()
            self._kept += [self._with_log(event) for event in new]
            return list(self._kept)

    def send(self, number: int, order: int, message: Message) -> None:
        """Tells the rank of a launch; `order` counts from 0: what came before its turn waits, what comes again does not
        count."""
        with self._telling:
            if number == self._number and order >= self._sent:
                self._early[order] = message
                while self._sent in self._early:
                    self._process.send(self._early.pop(self._sent))
                    self._sent += 1

    def kill(self, number: int) -> None:
        if number == self._number:
            self._process.kill()

    def _with_log(self, event: Message) -> Message:
        if event["kind"] != "exit" or self._log is None:
            return event
        return {**event, "log": rank_log.taken(self._log)}


class RemoteRank:
    """The driver's handle on the rank behind a RankHost.

    One call is always under way that ends when there is news; `on_news` is called then. Calls to the actor may overtake
    each other: what is said to a rank before its launch is confirmed waits here. `folders` says what folders of this
    machine are called on that node.
    """

    def __init__(self, actor: Any, on_news: Callable[[], None], folders: Mapping[str, str]) -> None:
        self._actor = actor
        self._on_news = on_news
        self._folders = folders
        self._number = -1
        self._seen = 0
        self._told = 0
        self._call: Call | None = None  # None where no rank is left
        self._launched = False
        self._outbox: list[Message] = []
        self._doomed = False
        self._loss: Message | None = None
        self._dead_s: float | None = None

    @property
    def is_lost(self) -> bool:
        """Whether its actor is gone, so that no rank can be launched any more."""
        return self._loss is not None or self._dead_s is not None

    def lose(self, what: str, cause: Cause) -> None:
        """Its node is gone."""
        self._loss = _lost(what, cause)
        self._on_news()

    def launch(self, spec: RankSpec) -> None:
        self._number += 1
        self._seen = self._told = 0
        self._launched = self._doomed = False
        self._outbox = []
        mark = rank_log.folder_mark(Path(spec.log_path).parent)
        self._ask(self._actor.launch.remote(self._number, self._translated(spec), mark, _FIRST_POLL_S))

    def poll(self) -> list[Message]:
        if self._call is None:
            return []
        if self._loss is not None:
            events = [self._loss]
        elif not self._call.done:
            return []
        else:
            events = self._answer(self._call)
        self._seen += len(events)
        if any(event["kind"] == "exit" for event in events):
            self._call = None
        elif self._dead_s is None:
            self._confirm_launch()
            self._ask(self._actor.poll.remote(self._number, self._seen, _LONG_POLL_S))
        return events

    def send(self, message: Message) -> None:
        if not self._launched:
            self._outbox.append(message)
        elif not self.is_lost:
            self._actor.send.remote(self._number, self._told, message)
            self._told += 1

    def kill(self) -> None:
        self._doomed = True
        if self._launched and not self.is_lost:
            self._actor.kill.remote(self._number)

    def _ask(self, reference: Any) -> None:
        self._call = Call(reference, "a rank", self._on_news)

    def _answer(self, call: Call) -> list[Message]:
        try:
            events: list[Message] = call.raw()
        except ActorUnavailableError:  # out of reach for now: it is asked again
            return []
        except RayActorError as error:
            return self._of_dead_actor(error)
        except RayError as error:  # the launcher could not start a fork server, say
            what = first_line(getattr(error, "cause", None) or error)
            return [_lost(f"could not be started ({what})", Cause.RANK_CRASH)]
        return events

    def _of_dead_actor(self, error: RayActorError) -> list[Message]:
        """The actor alone, which somebody killed; or with its node, of which the node table says more in a moment."""
        if "its node has died" not in str(error):
            self._dead_s = time.monotonic()
            return [_lost(f"was lost with its actor ({first_line(error)})", Cause.RANK_CRASH)]
        self._dead_s = self._dead_s or time.monotonic()
        if time.monotonic() - self._dead_s < _VERDICT_S:
            return []
        return [_lost(f"was lost with its node ({first_line(error)})", Cause.NODE_LOST)]

    def _translated(self, spec: RankSpec) -> RankSpec:
        payload = {
            key: self._folders.get(each, each) if isinstance(each, str) else each for key, each in spec.payload.items()
        }
        return replace(spec, payload=payload)

    def _confirm_launch(self) -> None:
        if self._launched:
            return
        self._launched = True
        for message in self._outbox:
            self.send(message)
        if self._doomed:
            self.kill()


def interface_of(address: str) -> str:
    """The network interface of this machine that has an address; empty where none has."""
    for name, addresses in psutil.net_if_addrs().items():
        if any(each.family in (socket.AF_INET, socket.AF_INET6) and each.address == address for each in addresses):
            return name
    return ""


def _lost(what: str, cause: Cause) -> Message:
    return {"kind": "exit", "status": 255, "lost": what, "cause": cause}
