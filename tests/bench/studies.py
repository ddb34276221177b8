"""Runs the real program on a tiny study, for tests: its processes, found by a mark in their environment."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).resolve().parents[2]
MARK = "JOULELAW_TEST_MARK"

TINY = """\
schema: 1
name: tiny
seed: 3
defaults: {vocab_size: 1000, hidden_size: 128, sequence_length: 64, micro_batch_size: 1}
grids:
  - {num_layers: [1, 2, 3], micro_batch_size: [1, 2]}
  - {strategy: [fsdp, zero2], gpu_count: 2, num_layers: 2}
window: {warmup_steps: 2, min_steps: 20, min_s: 2.5, max_s: 30, tolerance: 0}
hold_out: {by: case, fraction: 0.3}
metering: {meter: estimate, cpu_w_per_core: 10.0, idle_s: 0.5}
"""


@dataclass
class Finished:
    """How a command of the program ended; `last` is the JSON object in its last line of output."""

    code: int
    last: dict[str, Any]
    errors: str


class Running:
    """The program in a process of its own, with a mark that every process that comes of it inherits.

    What it says goes to files: nobody reads while it runs, and a pipe holds no more than 64 KiB.
    """

    def __init__(self, *arguments: str, cwd: Path, env: Mapping[str, str] | None = None) -> None:
        self.mark = uuid.uuid4().hex
        environment = {**os.environ, **(env or {}), MARK: self.mark, "PYTHONPATH": str(ROOT)}
        self._output, self._errors = (tempfile.TemporaryFile("a+", encoding="utf-8") for _ in range(2))  # noqa: SIM115
        self.process = subprocess.Popen(
            [sys.executable, "-m", "joulelaw.bench", *arguments],
            cwd=cwd,
            env=environment,
            stdout=self._output,
            stderr=self._errors,
        )

    def wait_for(self, condition: Callable[[], Any], timeout_s: float = 90) -> Any:
        """The condition's first true value; fails if the program ends before it."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if found := condition():
                return found
            if self.process.poll() is not None:
                raise AssertionError(f"ended too early: {self.end().errors}")
            time.sleep(0.05)
        raise AssertionError("waited in vain")

    def interrupt(self) -> None:
        self.process.send_signal(signal.SIGINT)

    def end(self, timeout_s: float = 150) -> Finished:
        """Waits for the program's own end."""
        self.process.wait(timeout_s)
        output, errors = (_whole(file) for file in (self._output, self._errors))
        return Finished(self.process.returncode, json.loads(output.splitlines()[-1]), errors)

    def marked(self) -> dict[int, str]:
        """The command lines of all live processes that came of this program, by pid."""
        return {pid: command for pid, command in marked(self.mark).items() if pid != self.process.pid}

    def ranks(self) -> list[int]:
        """The pids of ranks: forked servers whose parent is a fork server as well."""
        servers = [pid for pid, command in self.marked().items() if "joulelaw.cluster.ranks.forkserver" in command]
        return [pid for pid in servers if parent(pid) in servers]


def marked(mark: str) -> dict[int, str]:
    """The command lines of all live processes with this mark in their environment, by pid."""
    found = {}
    for folder in Path("/proc").iterdir():
        if not folder.name.isdecimal():
            continue
        try:
            if f"{MARK}={mark}".encode() in (folder / "environ").read_bytes():
                found[int(folder.name)] = (folder / "cmdline").read_bytes().decode().replace("\0", " ")
        except OSError:
            continue
    return found


def _whole(file: IO[str]) -> str:
    with file:
        file.seek(0)
        return file.read()


def parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def program(*arguments: str, cwd: Path) -> Finished:
    """Runs a command of the program to its end."""
    return Running(*arguments, cwd=cwd).end()
