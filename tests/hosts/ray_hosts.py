"""Hosts with a Ray node each, as an operator starts them: `ray start` with the token on all of them."""

import json
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow.parquet as pq

from tests.hosts.hosts import HOME, ROOT, Hosts

PORT = 6379
_UP_S = 60.0
# Ray's defaults but for the first two, 3 and 10 s: it takes 45 s, not 65, to give a silent host up. 20 s must be borne.
_HEALTH = {
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "8000",
    "RAY_health_check_failure_threshold": "5",
}
# Small: a node takes 80 MB of object store, one idle worker, and no more.
_SMALL = ["--num-cpus=1", "--object-store-memory=80000000", "--disable-usage-stats"]


@dataclass
class Study:
    """A study that runs on the head: its process, its folder as it is seen from outside, and what it says."""

    process: "subprocess.Popen[bytes]"
    folder: Path
    log: Path

    def wait_for(self, condition: Callable[[], Any], timeout_s: float = 120) -> None:
        """Until the condition holds; fails if the study ends before, or it takes longer."""
        deadline_s = time.monotonic() + timeout_s
        while not condition():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline_s, self.log.read_text()
            time.sleep(0.2)

    def end(self, timeout_s: float = 300) -> dict[str, Any]:
        """Waits for the study's end: the JSON object that it prints last."""
        self.process.wait(timeout_s)
        said = self.log.read_text()
        last: dict[str, Any] = json.loads(next(line for line in reversed(said.splitlines()) if line.startswith("{")))
        return last

    def rows(self, name: str, columns: Sequence[str] | None = None) -> list[dict[str, Any]]:
        """The rows of a table, as far as it is written; none where there is no file yet."""
        files = sorted((self.folder / name).glob("*.parquet"))
        return [row for file in files for row in pq.read_table(file, columns=columns).to_pylist()]


class RayHosts:
    """`gpus` are the logical GPUs of host1 (the head), host2, …; all is ended with the `with`."""

    def __init__(self, gpus: Sequence[int], logs: Path, token: str) -> None:
        self.hosts = Hosts(len(gpus))
        self.environment = {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": token,
            "RAY_worker_niceness": "0",
            "PYTHONPATH": str(ROOT),
            **_HEALTH,
        }
        self._gpus = {f"host{i}": count for i, count in enumerate(gpus, start=1)}
        self._logs = logs

    def __enter__(self) -> Self:
        self.hosts.__enter__()
        try:
            for name in self._gpus:
                self.start_node(name)
            self.wait_for_nodes(len(self._gpus))
        except BaseException:
            self.hosts.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.hosts.close()

    @property
    def address(self) -> str:
        return f"{self.hosts['host1'].address}:{PORT}"

    def start_node(self, name: str) -> "subprocess.Popen[bytes]":
        """`ray start --block` on a host, the head where it is host1; returns before it is up."""
        host = self.hosts[name]
        role = ["--head", f"--port={PORT}", "--include-dashboard=false"]
        if name != "host1":
            role = [f"--address={self.address}"]
        command = ["ray", "start", "--block", f"--node-ip-address={host.address}", *role]
        command += [f"--num-gpus={self._gpus[name]}", *_SMALL]
        return self.hosts.start(name, command, log=self._logs / f"{name}.log", env=self.environment)

    def wait_for_nodes(self, count: int) -> None:
        """Until so many nodes have joined the head."""
        deadline_s = time.monotonic() + _UP_S
        while time.monotonic() < deadline_s:
            if self._alive() >= count:
                return
            time.sleep(0.5)
        raise RuntimeError(f"fewer than {count} Ray nodes after {_UP_S:g} s; see {self._logs}")

    def _alive(self) -> int:
        """How many nodes the head has: as `ray list nodes`, without the dashboard that it would ask."""
        code = (
            "import sys; from ray._raylet import GcsClient;"
            "print(sum(n.state == 0 for n in GcsClient(address=sys.argv[1]).get_all_node_info().values()))"
        )
        done = self.hosts.run("host1", ["python", "-c", code, self.address], env=self.environment)
        return int(done.stdout) if done.stdout.strip().isdigit() else 0

    def start_study(self, sweep: str, name: str) -> Study:
        """`joulelaw run` on the head, into a folder of its own there; `sweep` is the text of the sweep."""
        head, log = self.hosts["host1"], self._logs / f"{name}.log"
        (head.path(HOME) / f"{name}.yaml").write_text(sweep)
        command = ["python", "-m", "joulelaw.bench", "run", f"{name}.yaml", "--into", f"/tmp/{name}"]
        environment = {**self.environment, "RAY_ADDRESS": self.address}
        process = self.hosts.start("host1", command, log=log, env=environment)
        return Study(process, head.path(f"/tmp/{name}"), log)
