"""A Ray cluster of several nodes on this machine, started as an operator does, whose nodes can be killed and replaced.

Each node is a `ray start --block` of its own, with a mark in its environment that everything inherits which comes of
it: raylet, agents, actors, samplers, fork servers and ranks. The head has no devices and is never killed.
"""

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.bench.studies import MARK, marked  # noqa: E402

_UP_S = 90.0
# Ray then finds a node dead some 6 s after its raylet, or 30 s after its last word.
HEALTH = {
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "4000",
    "RAY_health_check_failure_threshold": "6",
}


@dataclass(frozen=True)
class Shape:
    """A node's logical devices, each of so many cores: other cores, another model."""

    devices: int
    cores_per_device: int = 1


@dataclass
class RayNode:
    """One running node."""

    shape: Shape
    mark: str
    process: "subprocess.Popen[bytes]"
    began_s: float = field(default_factory=time.monotonic)

    def processes(self) -> dict[int, str]:
        """The command lines of all that came of it, by pid."""
        return marked(self.mark)

    def raylet(self) -> list[int]:
        return [pid for pid, command in self.processes().items() if command.split()[0].endswith("/raylet")]

    def kill(self) -> None:
        """All of it at once, as when its power fails; then whatever was being started meanwhile."""
        while found := self.processes():
            for pid in found:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self.process.wait()


class RayNodes:
    """The cluster: `nodes` are those with devices. Use it as a context manager: all that came of it is killed then."""

    def __init__(self, shapes: Sequence[Shape]) -> None:
        self._home = Path(tempfile.mkdtemp(prefix="jl-", dir="/tmp"))  # Ray's sockets need a short path
        self.address = f"127.0.0.1:{_free_port()}"
        # Before Ray is imported, here and in every process that is to speak to it.
        os.environ.update({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)})
        self.nodes: list[RayNode] = []
        self._shapes = tuple(shapes)
        self._head: RayNode | None = None
        self._added = 0

    def __enter__(self) -> Self:
        try:
            port = self.address.rpartition(":")[2]
            head = ["--head", f"--port={port}", "--include-dashboard=false", f"--temp-dir={self._home}"]
            self._head = self._start(Shape(0), head)
            self._wait_for(lambda: len(self.alive()) == 1)
            for shape in self._shapes:
                self.add(shape)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def add(self, shape: Shape) -> RayNode:
        """Starts one more node, and waits for it: of several at once on one machine, one may hang in Ray's start."""
        label = f"joulelaw/cores-per-device={shape.cores_per_device}"
        # An address of its own: a driver on this machine then connects to the head's raylet, which lives.
        self._added += 1
        place = f"127.0.0.{1 + self._added}"
        options = [f"--address={self.address}", f"--num-gpus={shape.devices}", f"--labels={label}"]
        self.nodes.append(self._start(shape, [*options, f"--node-ip-address={place}"]))
        self._wait_for(lambda: place in self.alive())
        return self.nodes[-1]

    def replace(self, node: RayNode) -> RayNode:
        """A new node of the same shape, in the place of one that is gone or then is."""
        node.kill()
        self.nodes.remove(node)
        return self.add(node.shape)

    def alive(self) -> list[str]:
        """The addresses of the nodes that Ray counts as there, the head among them."""
        from ray._raylet import GcsClient

        with contextlib.suppress(Exception):  # it is just starting
            nodes: Mapping[Any, Any] = GcsClient(address=self.address).get_all_node_info(timeout=5)
            return [each.node_manager_address for each in nodes.values() if each.state == 0]
        return []

    def _wait_for(self, condition: Callable[[], bool]) -> None:
        deadline_s = time.monotonic() + _UP_S
        while not condition():
            if time.monotonic() > deadline_s:
                logs = "".join(path.read_text() for path in sorted(self._home.glob("*.log")))
                raise SystemExit(f"a Ray node is not there after {_UP_S:g} s: {logs}")
            time.sleep(0.2)

    def close(self) -> None:
        for node in [*self.nodes, *([self._head] if self._head else [])]:
            node.kill()
        shutil.rmtree(self._home, ignore_errors=True)

    def _start(self, shape: Shape, options: Sequence[str]) -> RayNode:
        mark = uuid.uuid4().hex
        environment = {**os.environ, **HEALTH, MARK: mark, "RAY_worker_niceness": "0", "PYTHONPATH": str(ROOT)}
        environment.pop("RAY_ADDRESS", None)
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", *options]
        command += ["--num-cpus=2", "--object-store-memory=80000000", "--disable-usage-stats"]
        command += ["--dashboard-agent-listen-port=0"]
        with (self._home / f"{mark}.log").open("wb") as log:
            return RayNode(shape, mark, subprocess.Popen(command, env=environment, stdout=log, stderr=log))


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
