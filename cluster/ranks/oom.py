"""Whether the kernel's out-of-memory killer ended a process: its SIGKILL looks as any other does, but it is counted.

The counter is the group of processes' own where it can be read (cgroup v2: memory.events, v1: memory.oom_control, both
`oom_kill N`; Documentation/admin-guide/cgroup-v2.rst), else the machine's (/proc/vmstat `oom_kill`, mm/oom_kill.c).
"""

from collections.abc import Callable
from pathlib import Path


def oom_kills(root: Path = Path("/")) -> int | None:
    """How many processes the kernel has killed for memory so far; None where it does not tell."""
    for path in (*_group_files(root), root / "proc/vmstat"):
        try:
            lines = path.read_text().splitlines()
        except OSError:
            continue
        for line in lines:
            name, _, count = line.partition(" ")
            if name == "oom_kill" and count.isdigit():
                return int(count)
    return None


class OomCounter:
    """Tells which of the ranks that were killed the kernel killed: each counted kill explains one death."""

    def __init__(self, count: Callable[[], int | None] = oom_kills) -> None:
        self._count = count
        self._explained = 0

    def now(self) -> int:
        """To be asked at a rank's launch."""
        return self._count() or 0

    def explains(self, at_launch: int) -> bool:
        """Whether there was a kill since that no other rank's death is explained by. To be asked at a SIGKILL."""
        before = max(at_launch, self._explained)
        if self.now() <= before:
            return False
        self._explained = before + 1
        return True


def _group_files(root: Path) -> list[Path]:
    """The counter of this process's own group, by either version; inside a container the group's root is the mount."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    files = []
    for line in lines:
        number, controllers, path = line.split(":", 2)
        for place in (path.lstrip("/"), ""):
            if number == "0":
                files.append(root / "sys/fs/cgroup" / place / "memory.events")
            elif "memory" in controllers.split(","):
                files.append(root / "sys/fs/cgroup/memory" / place / "memory.oom_control")
    return files
