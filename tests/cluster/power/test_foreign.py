"""Whose a process on the GPU is: what a watched one has started is its own."""

import os
import subprocess
from pathlib import Path

from joulelaw.cluster.power.foreign import foreign_of, in_first_pid_namespace

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
        elsewhere = foreign_of([child], [shell.pid], same_numbers=False), foreign_of([child, 1], [shell.pid])
        os.kill(child, 9)
    assert of_shell == 2, "one that is gone, and the first of all"
    assert (of_us, of_nobody, of_the_child) == (0, 1, 1)
    assert elsewhere == (0, 1), "by number, where numbers mean nothing"


def test_the_namespace_is_told_by_its_number() -> None:
    assert in_first_pid_namespace() == (Path("/proc/self/ns/pid").stat().st_ino == 0xEFFFFFFC)
