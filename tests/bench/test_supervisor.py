"""The small parent of a study: however the study's process ends, there is a message, a code, and nothing left."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster.driving import gone, wait_for

ROOT = Path(__file__).resolve().parents[2]
START = f"""
import json, os, signal, subprocess, sys, time
sys.path.insert(0, {str(ROOT)!r})
from joulelaw.bench.study import supervisor

def report(message):
    print(json.dumps({{"error": message}}), flush=True)
    return 1

def tell(**values):
    print(json.dumps({{"pid": os.getpid(), **values}}), flush=True)

def work():
"""


class Command:
    """A supervised process whose work is the given lines; they `tell` of themselves with JSON lines."""

    def __init__(self, *work: str, settings: str = "") -> None:
        body = "\n".join(f"    {line}" for line in work)
        script = f"{START}{body}\n{settings}\nsys.exit(supervisor.supervised(work, report))\n"
        self.process = subprocess.Popen(
            [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        self.told = json.loads(self.process.stdout.readline())
        self.child = self.told["pid"]

    def end(self) -> tuple[int, str]:
        """Its exit code and what the supervisor reported."""
        output, errors = self.process.communicate(timeout=60)
        assert "Traceback" not in errors, errors
        return self.process.returncode, json.loads(output)["error"] if output else ""


def test_the_code_of_the_work_is_the_commands() -> None:
    assert Command("tell()", "return 3").end() == (3, "")


def test_a_crash_after_the_last_line_changes_nothing() -> None:
    """Ray's exit handlers sometimes end in SIGSEGV, or never, after all is said."""
    crash = "import atexit; atexit.register(lambda: os.kill(os.getpid(), signal.SIGSEGV))"
    assert Command("tell()", crash, "return 130").end() == (130, "")
    wait = "import atexit; atexit.register(lambda: time.sleep(600))"
    assert Command("tell()", wait, "return 3", settings="supervisor._END_S = 0.5").end() == (3, "")


@pytest.mark.parametrize(
    ("end", "said"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", "killed by signal 9 (SIGKILL, which the kernel also sends"),
        ("os._exit(1)", "ended abruptly, with exit code 1: Ray does so"),
    ],
)
def test_an_abrupt_end_is_told_and_how_to_go_on(end: str, said: str) -> None:
    code, message = Command("tell()", end).end()
    assert code == 1
    assert said in message
    assert "run the same command again" in message


def test_what_a_killed_study_started_ends_with_it_orphans_too() -> None:
    orphan = "subprocess.run(['sh', '-c', 'sleep 600 >/dev/null & echo $!'], stdout=subprocess.PIPE, text=True).stdout"
    command = Command(f"orphan = int({orphan})", "tell(orphan=orphan)", "time.sleep(600)")
    os.kill(command.child, signal.SIGKILL)
    assert command.end()[0] == 1
    assert gone(command.told["orphan"])


def test_a_killed_supervisor_takes_the_study_along() -> None:
    command = Command("tell()", "time.sleep(600)")
    command.process.kill()
    command.process.wait()
    wait_for(lambda: gone(command.child))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_reach_the_study_once(number: signal.Signals) -> None:
    count = f"signal.signal(signal.{number.name}, lambda *_: seen.append(1))"
    until_seen = "while not seen: time.sleep(0.01)"
    command = Command("seen = []", count, "tell()", until_seen, "time.sleep(0.3)", "return len(seen)")
    command.process.send_signal(number)
    assert command.end() == (1, "")


def test_a_study_that_stands_still_without_its_ray_is_ended(tmp_path: Path) -> None:
    """When the GCS is gone Ray holds the interpreter's lock for a minute and then ends the process."""
    raylet = shutil.copy(shutil.which("sleep") or "", tmp_path / "raylet")
    command = Command(
        f"raylet = subprocess.Popen([{str(raylet)!r}, '600'])",
        "time.sleep(1)",  # so that it is seen alive
        "tell(raylet=raylet.pid)",
        "time.sleep(600)",
        settings="supervisor._END_S = supervisor._LOOK_EVERY_S = 0.2",
    )
    os.kill(command.told["raylet"], signal.SIGKILL)
    code, message = command.end()
    assert code == 1
    assert "the local Ray died: its raylet is gone" in message
