"""The fork server's process: it has imported the heavy libraries, and forks a fresh process for each rank.

`python -m joulelaw.cluster.ranks.forkserver --socket PATH --ready-fd FD --preload torch,transformers`

It has one thread (a fork copies only the calling one, so another's locks would stay locked in the child) and never
initialises CUDA (a context does not survive a fork). A client connects, sends one line, and the connection then
belongs to the child; the server keeps a duplicate, on which it only listens for the hang-up that kills the child,
and speaks only after the child's death. It ends when its standard input closes, that is with whoever started it.
"""

import argparse
import contextlib
import gc
import importlib
import json
import os
import select
import signal
import socket
import struct
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from joulelaw.cluster.ranks.child import run_child
from joulelaw.cluster.ranks.oom import OomCounter
from joulelaw.cluster.ranks.wire import LineBuffer, Message, encode

_READ_BYTES = 1 << 16
_REQUEST = select.POLLIN | select.POLLRDHUP
_EXIT_SEND_S = 1.0


@dataclass
class _Rank:
    """A connection: first a request that is still coming in, then, with a pid, a running child."""

    connection: socket.socket
    lines: LineBuffer = field(default_factory=LineBuffer)
    pid: int | None = None
    oom_kills: int = 0  # at its launch


class ForkLoop:
    """One poll over the listener, the connections, dead children, and the life of the starter."""

    def __init__(self, listener: socket.socket, life_fd: int) -> None:
        self._listener = listener
        self._life_fd = life_fd
        self._ranks: dict[int, _Rank] = {}
        self._poll = select.poll()
        self._ending = False
        self._oom = OomCounter()

    def serve(self) -> None:
        wake_read, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake_write)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, self._end)
        for fd in (wake_read, self._listener.fileno(), self._life_fd):
            self._poll.register(fd, select.POLLIN)
        while not self._ending:
            for fd, _ in self._poll.poll():
                if fd == wake_read:
                    os.read(wake_read, _READ_BYTES)
                    self._reap()
                elif fd == self._listener.fileno():
                    self._accept()
                elif fd == self._life_fd:
                    self._ending = not os.read(self._life_fd, _READ_BYTES)
                elif fd in self._ranks:
                    self._serve_rank(fd)
        self._kill_all()

    def _end(self, *_: object) -> None:
        self._ending = True

    def _accept(self) -> None:
        connection, _ = self._listener.accept()
        _, uid, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        if uid != os.getuid():
            connection.close()
            return
        self._ranks[connection.fileno()] = _Rank(connection)
        self._poll.register(connection, _REQUEST)

    def _serve_rank(self, fd: int) -> None:
        rank = self._ranks[fd]
        if rank.pid is not None:  # the launcher hung up
            self._poll.unregister(fd)
            _kill_group(rank.pid)
            return
        try:
            # Not setblocking(False): the child shares the connection's flags.
            data = rank.connection.recv(_READ_BYTES, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        line = rank.lines.first_line(data)
        if line is not None:
            self._answer(rank, line)
        elif not data:
            self._forget(fd)

    def _answer(self, rank: _Rank, line: bytes) -> None:
        status = process_status()
        try:
            if status["server_threads"] != 1 or status["cuda_initialized"]:
                raise RuntimeError(f"the server is not fit for it: {status}")
            self._fork(rank, json.loads(line), status)
        except (ValueError, OSError, RuntimeError) as error:
            self._tell_exit(rank, 255, f"could not be forked: {error}")
            self._forget(rank.connection.fileno())

    def _fork(self, rank: _Rank, request: Message, status: Message) -> None:
        server_pid = os.getpid()
        oom_kills = self._oom.now()
        pid = os.fork()
        if pid == 0:
            try:
                self._close_in_child(rank)
                run_child(rank.connection, request, rank.lines.rest, server_pid, status)
            finally:
                os._exit(1)  # whatever happens, no second server
        with contextlib.suppress(OSError):  # the child does it too: whoever comes first
            os.setpgid(pid, pid)
        rank.pid, rank.oom_kills = pid, oom_kills
        self._poll.modify(rank.connection, select.POLLRDHUP)

    def _close_in_child(self, mine: _Rank) -> None:
        self._listener.close()
        for other in self._ranks.values():
            if other is not mine:
                other.connection.close()

    def _reap(self) -> None:
        for fd, rank in list(self._ranks.items()):
            if rank.pid is None or os.waitid(os.P_PID, rank.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                continue
            _kill_group(rank.pid)  # what the rank started itself; before the pid is free for another process
            _, wait_status = os.waitpid(rank.pid, 0)
            self._tell_exit(rank, os.waitstatus_to_exitcode(wait_status))
            self._forget(fd)

    def _tell_exit(self, rank: _Rank, status: int, lost: str = "") -> None:
        """The last word on a connection; the line end before it closes what a killed child left unfinished."""
        event = {"kind": "exit", "status": status, "lost": lost, "pid": rank.pid, "time_ns": time.monotonic_ns()}
        if status == -signal.SIGKILL and self._oom.explains(rank.oom_kills):
            event["out_of_memory"] = True
        rank.connection.settimeout(_EXIT_SEND_S)
        with contextlib.suppress(OSError):  # a launcher that is gone needs no answer
            rank.connection.sendall(b"\n" + encode(event))

    def _forget(self, fd: int) -> None:
        with contextlib.suppress(KeyError):
            self._poll.unregister(fd)
        self._ranks.pop(fd).connection.close()

    def _kill_all(self) -> None:
        running = [rank for rank in self._ranks.values() if rank.pid is not None]
        for rank in running:
            _kill_group(rank.pid)
        for rank in running:
            os.waitpid(rank.pid or 0, 0)


def process_status() -> Message:
    """What makes this process fit to fork from: its number of threads, and whether anything initialised CUDA."""
    torch = sys.modules.get("torch")
    return {
        "server_threads": len(list(Path("/proc/self/task").iterdir())),
        "cuda_initialized": bool(torch and torch.cuda.is_initialized()) or _holds_cuda_device(),
    }


def _holds_cuda_device() -> bool:
    """CUDA, unlike NVML, opens nvidia-uvm: this sees a context that torch does not know of."""
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            if str(link.readlink()).startswith("/dev/nvidia-uvm"):
                return True
    return False


def _kill_group(pid: int | None) -> None:
    if pid is not None:
        for kill in (os.killpg, os.kill):  # the process itself too: it may not have its group yet
            with contextlib.suppress(ProcessLookupError):
                kill(pid, signal.SIGKILL)


def _preload(modules: list[str]) -> str:
    """Imports the modules; what went wrong in words, or nothing."""
    for name in modules:
        try:
            importlib.import_module(name)
        except Exception as error:  # any library's import may fail in any way
            return f"cannot import {name!r}: {type(error).__name__}: {error}"
    gc.collect()
    gc.freeze()  # the collector then leaves the shared pages alone, which a write would copy into each child
    return ""


def main() -> None:
    parser = argparse.ArgumentParser(description="Forks rank processes from a preloaded, single-threaded state.")
    parser.add_argument("--socket", required=True)
    parser.add_argument("--ready-fd", type=int, required=True)
    parser.add_argument("--preload", default="", help="modules, separated by commas")
    options = parser.parse_args()
    signal.pthread_sigmask(signal.SIG_SETMASK, [])  # Ray starts its workers with signals blocked
    begin = time.monotonic()
    error = _preload([name for name in options.preload.split(",") if name])
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(options.socket)
    listener.listen(64)
    status = {**process_status(), "pid": os.getpid(), "preload_s": time.monotonic() - begin, "error": error}
    os.write(options.ready_fd, encode(status))
    os.close(options.ready_fd)
    if not error:
        ForkLoop(listener, life_fd=0).serve()
    Path(options.socket).unlink(missing_ok=True)
    sys.exit(1 if error else 0)


if __name__ == "__main__":
    main()
