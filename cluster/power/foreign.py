"""Whose the processes are that NVML finds at work on a GPU: those of what is measured, or another's."""

from collections.abc import Callable, Collection, Sequence
from pathlib import Path

# CUDA opens one of these in every process that works on a GPU: under Linux, and under Linux on Windows.
DRIVER_FILES = ("/dev/nvidia-uvm", "/dev/dxg")


def uses_gpu(pid: int) -> bool:
    """Whether a process has CUDA's way to the driver open; True where that cannot be seen, as of one that is ending."""
    try:
        opened = list(Path(f"/proc/{pid}/fd").iterdir())
    except PermissionError:
        return True
    except OSError:  # gone
        return False
    return not opened or any(_target(each) in DRIVER_FILES for each in opened)


def foreign_of(
    found: Sequence[int],
    watched: Collection[int],
    *,
    same_numbers: bool = False,
    uses_gpu: Callable[[int], bool] = uses_gpu,
) -> int:
    """How many of the processes that were found are neither watched nor started by one that is.

    In a container the GPU's processes have other numbers than ours: where none of ours is found, as many as we watch
    and as use a GPU are taken for ours, unless ours are known to be the `same_numbers`.

    >>> foreign_of([5, 6, 7], [5, 6]), foreign_of([], [5]), foreign_of([8], [])
    (1, 0, 1)
    >>> foreign_of([91, 92, 93], [5, 6], uses_gpu=lambda pid: True), foreign_of([91], [5], uses_gpu=lambda pid: False)
    (1, 1)
    >>> foreign_of([91], [5], same_numbers=True), foreign_of([5], [5, 6], same_numbers=True)
    (1, 0)
    """
    others = [pid for pid in found if pid not in watched]
    if same_numbers or len(others) < len(found):
        # What a watched process has just started need not have been named yet.
        return sum(not _comes_from(pid, watched) for pid in others)
    return max(0, len(found) - sum(map(uses_gpu, watched))) if found else 0


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


def _target(link: Path) -> str:
    """Empty where it has just been closed."""
    try:
        return str(link.readlink())
    except OSError:
        return ""


def _parent(pid: int) -> int:
    """0 once it is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return 0
    return int(text.rpartition(")")[2].split()[1])  # the name before it may hold anything
