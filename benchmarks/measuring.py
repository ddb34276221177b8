"""What the benchmarks share: a case in a process of its own, its time and memory, and the table of what was found."""

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Cost:
    """What a case took: of the clock, of the processor (all threads), and at most of memory."""

    wall_s: float
    cpu_s: float
    peak_mb: float  # of resident set, in 10^6 bytes, libraries included


def costs_of(work: Callable[[], Any]) -> tuple[Cost, Any]:
    """The cost of a piece of work in this process, and what it returned. The peak is the whole process's."""
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    result = work()
    return Cost(time.perf_counter() - wall_s, time.process_time() - cpu_s, peak_mb()), result


def peak_mb() -> float:
    """The largest resident set of this process since its program began (not its parent's, as getrusage would say)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    kib = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
    return kib * 1024 / 1e6


def in_fresh_process(script: str, *arguments: str) -> dict[str, Any]:
    """Runs one case of a script with a new interpreter; the case's answer is the last line that it prints."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, script, *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr}")
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def answer(cost: Cost, **more: Any) -> None:
    """How a case answers `in_fresh_process`."""
    print(json.dumps({**asdict(cost), **more}))


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table; the first column is text, the others are numbers."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def machine() -> str:
    """This machine in words."""
    names = [line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
             if line.startswith("model name")]  # fmt: skip
    cores, load = len(os.sched_getaffinity(0)), os.getloadavg()[0]
    return (
        f"{names[0] if names else platform.machine()}, {cores} cores, Linux, Python {platform.python_version()}, "
        f"load before the run {load:.1f}"
    )
