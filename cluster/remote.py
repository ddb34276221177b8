"""Ranks on Ray's nodes: one RankHost actor holds a device of a group, and asks the node's fork server for ranks."""

from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayActorError, RayError

from joulelaw.cluster.ranks import RankProcess, RankSpec
from joulelaw.cluster.raycalls import first_line
from joulelaw.cluster.wire import Message

_LONG_POLL_S = 10.0


@dataclass(frozen=True)
class Place:
    """Where Ray put a RankHost: the node, its address, and the id of the GPU it was granted there."""

    node_id: str
    host: str
    gpu_id: str


class RankHost:
    """The actor. Several calls run at once in it: `poll` waits inside for events, without using the processor."""

    def __init__(self) -> None:
        self._process = RankProcess()

    def place(self) -> Place:
        context = ray.get_runtime_context()
        (gpu_id,) = ray.get_gpu_ids()
        return Place(context.get_node_id(), ray.util.get_node_ip_address(), str(gpu_id))

    def launch(self, server_address: str, spec: RankSpec) -> list[Message]:
        """Asks for the process; answers no events, so that a handle can treat it as its first poll."""
        self._process.launch(server_address, spec)
        return []

    def poll(self, wait_s: float) -> list[Message]:
        return self._process.poll(wait_s)

    def send(self, message: Message) -> None:
        self._process.send(message)

    def kill(self) -> None:
        self._process.kill()


class RemoteRank:
    """The driver's handle on a rank behind a RankHost.

    One call is always under way that ends when there is news, so that polling asks Ray only whether it has ended.
    Calls to the actor may overtake each other: what is said to a rank before its launch is confirmed waits here.
    """

    def __init__(self, actor: Any, launcher: Any) -> None:
        self._actor = actor
        self._launcher = launcher
        self._pending: Any = None
        self._launched = False
        self._gone = True
        self._outbox: list[Message] = []
        self._doomed = False

    def launch(self, spec: RankSpec) -> None:
        # The launcher's answer goes straight to the actor; it also starts a fork server anew that has died.
        self._launched = self._gone = self._doomed = False
        self._outbox = []
        self._pending = self._actor.launch.remote(self._launcher.address.remote(), spec)

    @property
    def awaited(self) -> list[Any]:
        """The call under way, for `ray.wait`; none where no rank is left."""
        return [] if self._gone else [self._pending]

    def poll(self) -> list[Message]:
        if self._gone or not ray.wait([self._pending], timeout=0)[0]:
            return []
        try:
            events: list[Message] = ray.get(self._pending)
        except RayActorError as error:
            events = [_lost(f"was lost with its node or actor ({first_line(error)})")]
        except RayError as error:  # the launcher could not give an address, say
            events = [_lost(f"could not be started ({first_line(getattr(error, 'cause', None) or error)})")]
        self._gone = any(event["kind"] == "exit" for event in events)
        if not self._gone:
            self._confirm_launch()
            self._pending = self._actor.poll.remote(_LONG_POLL_S)
        return events

    def send(self, message: Message) -> None:
        if self._launched:
            self._actor.send.remote(message)
        else:
            self._outbox.append(message)

    def kill(self) -> None:
        self._doomed = True
        if self._launched:
            self._actor.kill.remote()

    def _confirm_launch(self) -> None:
        if self._launched:
            return
        self._launched = True
        for message in self._outbox:
            self._actor.send.remote(message)
        if self._doomed:
            self._actor.kill.remote()


def _lost(cause: str) -> Message:
    return {"kind": "exit", "status": 255, "lost": cause}
