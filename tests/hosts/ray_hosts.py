"""Hosts with a Ray node each, as an operator starts them: `ray start` with the token on all of them."""

import json
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.hosts.hosts import HOME, ROOT, Hosts

PORT = 6379
STUDY = "/tmp/study"
_UP_S = 60.0
# Ray notices within about half a minute that a host is gone (65 s are its default), and bears 20 s of silence.
_HEALTH = {
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "4000",
    "RAY_health_check_failure_threshold": "6",
}
# Small: a node takes 80 MB of object store, one idle worker, and no more.
_SMALL = ["--num-cpus=1", "--object-store-memory=80000000", "--disable-usage-stats"]


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

    def start_study(self, sweep: str, log: Path, *options: str) -> "subprocess.Popen[bytes]":
        """`joulelaw run` on the head, into its own folder; `sweep` is the text of the sweep."""
        (self.hosts["host1"].path(HOME) / "sweep.yaml").write_text(sweep)
        command = ["python", "-m", "joulelaw.bench", "run", "sweep.yaml", "--into", STUDY, *options]
        return self.hosts.start("host1", command, log=log, env={**self.environment, "RAY_ADDRESS": self.address})

    def folder(self) -> Path:
        """The study's folder, on the head."""
        return self.hosts["host1"].path(STUDY)


def last_line(log: Path) -> Mapping[str, Any]:
    """What a command printed last: its JSON object."""
    found: Mapping[str, Any] = json.loads(log.read_text().strip().splitlines()[-1])
    return found
