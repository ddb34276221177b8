"""A Ray cluster on this machine as an operator starts one: `ray start`, a token, ports of its own, ended by pid."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "the-token-of-this-cluster-0123456789"
_UP_S = 90.0


class RayNodes:
    """A head with a dashboard, for jobs, and one node more; each offers one logical GPU."""

    def __init__(self, folder: Path, token: str) -> None:
        self._folder = folder
        self._short = Path(f"/tmp/jl-nodes-{os.getpid()}")  # Ray's sockets need a short path
        self._processes: list[psutil.Process] = []
        self._head, self._dashboard, self._metrics = _free_ports(3)
        (folder / "home").mkdir(parents=True)
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("RAY_")},
            "HOME": str(folder / "home"),  # where another token may lie
            "PATH": os.pathsep.join([str(Path(sys.prefix) / "bin"), os.environ["PATH"]]),
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": token,
            "RAY_JOB_STOP_WAIT_TIME_S": "30",
            "RAY_worker_niceness": "0",
            "RAY_metrics_report_interval_ms": "1000",
        }

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._head}"

    @property
    def dashboard(self) -> str:
        return f"http://127.0.0.1:{self._dashboard}"

    @property
    def metrics(self) -> str:
        """Where the head's Prometheus endpoint is."""
        return f"http://127.0.0.1:{self._metrics}/metrics"

    def __enter__(self) -> Self:
        try:
            client, agent = _free_ports(2)
            head = ["--head", f"--port={self._head}", f"--dashboard-port={self._dashboard}"]
            head += [f"--ray-client-server-port={client}", f"--metrics-export-port={self._metrics}"]
            self._start("head", [*head, f"--temp-dir={self._short}"], agent)
            self._wait_for(["ray", "status", f"--address={self.address}"])
            self._start("node", [f"--address={self.address}"], _free_ports(1)[0])
            self._wait_for(["ray", "job", "list", f"--address={self.dashboard}"])
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def run(
        self, command: Sequence[str], *, change: Mapping[str, str | None] | None = None, timeout_s: float = 120
    ) -> "subprocess.CompletedProcess[str]":
        """Runs a command from the root of the checkout, with the token; `change` alters its environment."""
        changed = {**self.environment, **(change or {})}
        environment = {name: value for name, value in changed.items() if value is not None}
        return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=timeout_s)

    def close(self) -> None:
        """Ends the nodes and all that they started."""
        left = [each for process in self._processes for each in (process, *_descendants(process))]
        for process in left:
            if process.is_running():
                process.kill()
        psutil.wait_procs(left, timeout=20)
        subprocess.run(["rm", "-rf", str(self._short)], check=True)

    def _start(self, name: str, role: Sequence[str], agent_port: int) -> None:
        command = ["ray", "start", "--block", "--node-ip-address=127.0.0.1", *role, "--num-gpus=1", "--num-cpus=1"]
        command += ["--object-store-memory=80000000", "--disable-usage-stats", "--min-worker-port=0"]
        command += ["--max-worker-port=0", f"--dashboard-agent-listen-port={agent_port}"]
        with (self._folder / f"{name}.log").open("ab") as log:
            started = subprocess.Popen(command, cwd=ROOT, env=self.environment, stdout=log, stderr=log)
        self._processes.append(psutil.Process(started.pid))

    def _wait_for(self, command: Sequence[str]) -> None:
        deadline_s = time.monotonic() + _UP_S
        while self.run(command).returncode:
            if time.monotonic() > deadline_s:
                raise RuntimeError(f"{' '.join(command)} fails; see {self._folder}")
            time.sleep(0.5)


def _descendants(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _free_ports(count: int) -> list[int]:
    """Ports that nobody listens at now; all distinct."""
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [listener.getsockname()[1] for listener in listeners]
    for listener in listeners:
        listener.close()
    return ports
