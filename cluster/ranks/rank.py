"""A rank: what its process is told (RankSpec), what it can say (RankContext), and its handle here (RankProcess)."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from joulelaw.cluster.failures import Cause
from joulelaw.cluster.nodes.inventory import Device
from joulelaw.cluster.ranks.wire import LineBuffer, Message, encode

_READ_BYTES = 1 << 16


class Channel(Protocol):
    """The way from a rank to its launcher and back: a socket in a forked process, a list in a test."""

    def emit(self, event: Message) -> None: ...

    def receive(self, timeout_s: float) -> Message: ...


@dataclass(frozen=True)
class RankContext:
    """Who a rank is, and its way to the launcher; every entry function gets one.

    `host` is the address at which the other ranks of the group reach this machine (loopback if all are on it), `cores`
    those of its logical device; a GPU has none.
    `threads` is the number of computing threads this rank may use, already set in the environment and in torch.
    """

    rank: int
    world_size: int
    local_rank: int
    local_world_size: int
    device_kind: str
    device_uuid: str
    threads: int
    host: str = "127.0.0.1"
    cores: tuple[int, ...] = ()
    channel: Channel = field(kw_only=True, repr=False, compare=False)

    def emit(self, event: Message) -> None:
        """Sends a JSON-able event, with a "kind", to the launcher. Safe from any thread."""
        self.channel.emit(event)

    def receive(self, timeout_s: float) -> Message:
        """The next message from the launcher. TimeoutError after `timeout_s`, ConnectionError if it is gone."""
        return self.channel.receive(timeout_s)


@dataclass(frozen=True)
class RankSpec:
    """One rank to start. `entry` is "module:function"; `payload` and `env` must survive JSON."""

    entry: str
    payload: dict[str, Any]
    rank: int
    world_size: int
    local_rank: int
    local_world_size: int
    device: Device
    env: dict[str, str]
    log_path: str
    host: str = "127.0.0.1"

    @property
    def threads(self) -> int:
        """One computing thread per pinned core; one, as torchrun gives, where the rank drives a GPU."""
        return len(self.device.cores) or 1

    def to_request(self) -> Message:
        return {**asdict(self), "threads": self.threads}


class RankProcess:
    """The launcher's handle on one rank. A thread blocks on its socket, so that an idle handle costs nothing; it calls
    `on_news` whenever there are events."""

    def __init__(self, on_news: Callable[[], None] = lambda: None) -> None:
        self._on_news = on_news
        self._connection: socket.socket | None = None
        self._events: list[Message] = []
        self._news = threading.Condition()

    def launch(self, server_address: str, spec: RankSpec) -> bool:
        """Asks the fork server at `server_address` for the process. Its failures arrive as an "exit" event; False where
        no server answers."""
        self._events = []
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.connect(server_address)
            connection.sendall(encode(spec.to_request()))
        except OSError as error:
            connection.close()
            self._append([_lost(f"could not be started: no fork server answers ({error.strerror or error})")])
            return False
        self._connection = connection
        threading.Thread(target=self._read, args=(connection,), name=f"rank{spec.rank}-reader", daemon=True).start()
        return True

    def poll(self, wait_s: float = 0.0) -> list[Message]:
        """The events since the last call; waits up to `wait_s` for the first of them."""
        with self._news:
            self._news.wait_for(lambda: bool(self._events), wait_s)
            events, self._events = self._events, []
        return events

    def send(self, message: Message) -> None:
        """Sends a message to the rank's `receive`. A rank that is gone tells so by its exit, not here."""
        connection = self._connection  # looked at once: the reader takes it away when the rank ends
        if connection is not None:
            with contextlib.suppress(OSError):
                connection.sendall(encode(message))

    def kill(self) -> None:
        """Ends the rank at once: the server kills it when this side hangs up, and still reports the exit."""
        connection = self._connection
        if connection is not None:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_WR)

    def _read(self, connection: socket.socket) -> None:
        lines = LineBuffer()
        exited = False
        with connection:
            while not exited:
                try:
                    data = connection.recv(_READ_BYTES)
                except OSError:
                    data = b""
                messages = lines.messages(data) if data else [_lost("was lost with its fork server")]
                exited = any(message["kind"] == "exit" for message in messages)
                if exited:
                    self._connection = None  # before the news of it, at which the next rank may be launched at once
                self._append(messages)

    def _append(self, messages: list[Message]) -> None:
        with self._news:
            self._events += messages
            self._news.notify_all()
        self._on_news()


def _lost(cause: str) -> Message:
    """The exit of a rank whose end nobody saw; status 255, which no rank uses."""
    return {"kind": "exit", "status": 255, "lost": cause, "cause": Cause.RANK_CRASH, "time_ns": time.monotonic_ns()}
