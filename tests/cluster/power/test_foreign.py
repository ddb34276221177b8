"""Whose a process on the GPU is: what a watched one has started is its own."""

import os
import subprocess
from pathlib import Path

import pytest

from joulelaw.cluster.power import foreign
from joulelaw.cluster.power.foreign import foreign_of, in_first_pid_namespace, uses_gpu

GONE = 2**22 + 1  # above the largest number that Linux gives


def test_what_a_watched_process_started_is_not_foreign() -> None:
    with subprocess.Popen(["sh", "-c", "sleep 60 & echo $!; wait"], stdout=subprocess.PIPE, text=True) as shell:
        assert shell.stdout is not None
        child = int(shell.stdout.readline())
        found = [child, shell.pid, GONE, 1]
        of_shell = foreign_of(found, [shell.pid], same_numbers=True)
        of_us = foreign_of([child], [os.getpid()], same_numbers=True)
        of_nobody = foreign_of([child], [], same_numbers=True)
        of_the_child = foreign_of([shell.pid], [child], same_numbers=True)
        os.kill(child, 9)
    assert of_shell == 2, "one that is gone, and the first of all"
    assert (of_us, of_nobody, of_the_child) == (0, 1, 1)


def test_only_a_process_with_the_drivers_file_open_stands_for_one_on_the_gpu(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """In a container, whose numbers the driver does not know: a command that computes on the CPU hides nobody."""
    driver = tmp_path / "nvidia-uvm"
    driver.touch()
    monkeypatch.setattr(foreign, "DRIVER_FILES", (str(driver),))
    with subprocess.Popen(["sleep", "60"]) as idle, subprocess.Popen(["sleep", "60"], stdin=driver.open()) as busy:
        found = [foreign_of([GONE], [pid]) for pid in (idle.pid, busy.pid)]
        both = foreign_of([GONE, GONE + 1, GONE + 2], [idle.pid, busy.pid])
        busy.kill()
        os.waitid(os.P_PID, busy.pid, os.WEXITED | os.WNOWAIT)
        ending = uses_gpu(busy.pid)
        idle.kill()
    assert (found, both) == ([1, 0], 2)
    assert ending, "it has closed its files, and the driver may still show it"
    assert not uses_gpu(GONE)


def test_the_namespace_is_told_by_its_number() -> None:
    assert in_first_pid_namespace() == (Path("/proc/self/ns/pid").stat().st_ino == 0xEFFFFFFC)
