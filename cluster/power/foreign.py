"""Whose the processes are that NVML finds at work on a GPU: those of what is measured, or another's."""

from collections.abc import Collection, Sequence
from pathlib import Path


def foreign_of(found: Sequence[int], watched: Collection[int], *, same_numbers: bool = False) -> int:
    """How many of the processes that were found are neither watched nor started by one that is.

    In a container the GPU's processes have other numbers than ours: where none of ours is found, as many as we watch
    are taken for ours, unless ours are known to be the `same_numbers`.

    >>> foreign_of([5, 6, 7], [5, 6]), foreign_of([91, 92, 93], [5, 6]), foreign_of([], [5]), foreign_of([8], [])
    (1, 1, 0, 1)
    >>> foreign_of([91], [5], same_numbers=True), foreign_of([5], [5, 6], same_numbers=True)
    (1, 0)
    """
    others = [pid for pid in found if pid not in watched]
    if same_numbers and watched:  # what a watched process has just started need not have been named yet
        others = [pid for pid in others if not _comes_from(pid, watched)]
    known = same_numbers or len(others) < len(found)
    return len(others) if known else max(0, len(found) - len(watched))


def in_first_pid_namespace() -> bool:
    """Whether processes have the same numbers here as for the driver, which counts them in the machine's own.

    Linux has given that namespace a number that is never another's (include/linux/proc_ns.h: PROC_PID_INIT_INO).
    """
    try:
        return Path("/proc/self/ns/pid").readlink().name == "pid:[4026531836]"
    except OSError:
        return False


def _comes_from(pid: int, ancestors: Collection[int]) -> bool:
    parent = _parent(pid)
    while parent > 1:
        if parent in ancestors:
            return True
        parent = _parent(parent)
    return False


def _parent(pid: int) -> int:
    """0 once it is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return 0
    return int(text.rpartition(")")[2].split()[1])  # the name before it may hold anything
