"""What a forked process does around its entry function: isolate, pin, redirect, run, report, leave."""

import ctypes
import faulthandler
import importlib
import os
import select
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from joulelaw.cluster.ranks.rank import RankContext
from joulelaw.cluster.ranks.wire import LineBuffer, Message, encode

Entry = Callable[[dict[str, Any], RankContext], None]

_PR_SET_PDEATHSIG = 1
_READ_BYTES = 1 << 16
_MESSAGE_CHARACTERS = 4_000
_TRACEBACK_CHARACTERS = 16_000


class SocketChannel:
    """A rank's side of the connection. Reading and writing may happen in different threads."""

    def __init__(self, connection: socket.socket, start: bytes) -> None:
        self._connection = connection
        self._lines = LineBuffer(start)
        self._inbox: list[Message] = self._lines.messages()
        self._write = threading.Lock()
        self._read = threading.Lock()

    def emit(self, event: Message) -> None:
        data = encode(event)
        with self._write:
            self._connection.sendall(data)

    def receive(self, timeout_s: float) -> Message:
        deadline = time.monotonic() + timeout_s
        with self._read:
            while not self._inbox:
                # Not settimeout(): that would bound emit() too, which shares the socket.
                if not _readable(self._connection, deadline - time.monotonic()):
                    raise TimeoutError(f"no message from the launcher within {timeout_s:g} s")
                data = self._connection.recv(_READ_BYTES)
                if not data:
                    raise ConnectionError("the launcher hung up")
                self._inbox = self._lines.messages(data)
            return self._inbox.pop(0)


def _readable(connection: socket.socket, wait_s: float) -> bool:
    poll = select.poll()  # unlike select(), good for any descriptor number
    poll.register(connection, select.POLLIN)
    return bool(poll.poll(max(0.0, wait_s) * 1e3))


def run_child(connection: socket.socket, request: Message, rest: bytes, server_pid: int, status: Message) -> NoReturn:
    """Runs one rank from its request to its exit; never returns to the server's code. `status` is told first."""
    code = 1
    channel = SocketChannel(connection, rest)
    try:
        _isolate(server_pid)
        _redirect(Path(request["log_path"]))
        channel.emit({"kind": "started", "pid": os.getpid(), **status})
        _pin(request)
        entry = _load(request["entry"])
        entry(request["payload"], _context(request, channel))
        code = 0
    except SystemExit as request_to_leave:
        code = request_to_leave.code if isinstance(request_to_leave.code, int) else int(bool(request_to_leave.code))
    except BaseException as error:
        _report(error, channel)
    finally:
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (OSError, ValueError):
                code = code or 1  # a full disk must not look like success
        os._exit(code)


def _isolate(server_pid: int) -> None:
    """A process group of its own, default signals, and death with the server."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setpgid(0, 0)
    # The server has one thread, so that "death of the parent thread" is the server's death.
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != server_pid:
        os._exit(1)


def _redirect(log_path: Path) -> None:
    """Output to the rank's own log, line by line, so that a kill loses none; a crash leaves its stack there."""
    log_path.parent.mkdir(parents=True, exist_ok=True)
    log = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    os.close(nothing)
    os.close(log)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    faulthandler.enable()


def _pin(request: Message) -> None:
    """Cores, threads and environment. Libraries that are loaded already have read OMP_NUM_THREADS: torch is told."""
    threads = request["threads"]
    if request["device"]["cores"]:
        os.sched_setaffinity(0, request["device"]["cores"])
    os.environ.update({name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")})
    os.environ.update(request["env"])
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)


def _load(entry: str) -> Entry:
    module, _, name = entry.partition(":")
    function: Entry = getattr(importlib.import_module(module), name)
    return function


def _context(request: Message, channel: SocketChannel) -> RankContext:
    device = request["device"]
    names = ("rank", "world_size", "local_rank", "local_world_size", "threads", "host")
    return RankContext(
        **{name: request[name] for name in names},
        device_kind=device["kind"],
        device_uuid=device["uuid"],
        cores=tuple(device["cores"]),
        channel=channel,
    )


def _report(error: BaseException, channel: SocketChannel) -> None:
    """The error to the log and to the launcher."""
    text = "".join(traceback.format_exception(error))
    event = {
        "kind": "error",
        "type": type(error).__name__,
        "message": str(error)[:_MESSAGE_CHARACTERS],
        "traceback": text[-_TRACEBACK_CHARACTERS:],
        "time_ns": time.monotonic_ns(),
    }
    try:
        print(text, file=sys.stderr, flush=True)
        channel.emit(event)
    except OSError:
        pass  # a launcher that is gone, or a full disk: the exit code tells
