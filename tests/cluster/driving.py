"""What the tests of rank processes share: run a gang to its end, and see whether a process is gone."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from joulelaw.cluster.ranks.gang import GangState, RankGang

Event = dict[str, Any]
ROOT = Path(__file__).resolve().parent.parent.parent
PATIENCE_S = 60.0  # of a loaded machine; what holds, holds much sooner


def run(gang: RankGang, entry: str, payload: dict[str, Any], log_dir: Path, **options: Any) -> list[Event]:
    """Starts a test entry and returns every event once no rank is left."""
    gang.start(f"tests.cluster.entries:{entry}", payload, log_dir, **options)
    return finish(gang)


def finish(gang: RankGang) -> list[Event]:
    events: list[Event] = []

    def ended() -> bool:
        events.extend(gang.poll())
        return gang.state is not GangState.RUNNING

    wait_for(ended)
    return events


def wait_for_kind(gang: RankGang, kind: str, number: int = 1) -> list[Event]:
    """Polls until `number` events of a kind have come."""
    events: list[Event] = []

    def enough() -> bool:
        events.extend(gang.poll())
        return len(of_kind(events, kind)) >= number

    wait_for(enough)
    return of_kind(events, kind)


def of_kind(events: list[Event], kind: str) -> list[Event]:
    return [event for event in events if event["kind"] == kind]


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"not so within {PATIENCE_S} s"
        time.sleep(0.01)


def gone(pid: int) -> bool:
    """No such process, or one that is dead and only waits to be reaped."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def environment() -> dict[str, str]:
    """For a process that imports us."""
    return {**os.environ, "PYTHONPATH": str(ROOT)}
