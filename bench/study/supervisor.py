"""A small parent for the process of a study: whatever kills that one, the user gets a message and nothing is left.

Ray ends a driver abruptly, from its C++ core, when its local cluster dies: some 60 s after the GCS, in which the whole
interpreter stands still. No exception can tell of that, another process can. This one imports nothing heavy, passes
signals on, adopts every process whose parent dies (PR_SET_CHILD_SUBREAPER), and ends them when the study has ended.
If it is killed itself, the study's process dies with it, and Ray's local processes with that one.
"""

import contextlib
import ctypes
import os
import select
import signal
import time
from collections.abc import Callable
from pathlib import Path

from joulelaw.cluster.ranks.rank_failures import signal_cause
from joulelaw.cluster.ranks.scratch import remove_all_abandoned

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_PASSED_ON = (signal.SIGINT, signal.SIGTERM)
_LOOK_EVERY_S = 1.0
# How long the study's process may take to end by itself: after it has told its exit code, or without its Ray.
_END_S = 20.0
_RAY = ("gcs_server", "raylet")

Report = Callable[[str], int]


def supervised(work: Callable[[], int], report: Report) -> int:
    """The exit code of `work`, which runs in a child process and tells people and programs itself how it ended.

    Where it ends without a code, `report` is called with a message and gives the code instead.
    """
    told_read, told_write = os.pipe()
    supervisor = os.getpid()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _PASSED_ON)  # until there is someone who passes them on
    child = os.fork()
    if child == 0:
        os.close(told_read)
        _become_child(supervisor)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        code = work()
        os.write(told_write, bytes([code]))
        return code
    os.close(told_write)
    supervision = _Supervisor(child, told_read)
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return supervision.run(report)


def _become_child(supervisor: int) -> None:
    """Dies with its parent; in a group of its own, so that Ctrl-C in a terminal comes once, through the parent."""
    os.setpgid(0, 0)
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)  # it may write to the terminal all the same
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != supervisor:
        os._exit(1)


class _Supervisor:
    """Watches one child to its end."""

    def __init__(self, child: int, told: int) -> None:
        self._child = child
        self._told = told
        self._ray: dict[int, str] = {}
        self._lost_ray = ""
        self._code: int | None = None
        self._ending_since_s: float | None = None
        _prctl(_PR_SET_CHILD_SUBREAPER, 1)
        for number in _PASSED_ON:
            signal.signal(number, self._pass_on)

    def run(self, report: Report) -> int:
        status = self._wait()
        self._hear()
        _end_adopted()
        remove_all_abandoned()
        return report(self._cause(status)) if self._code is None else self._code

    def _pass_on(self, number: int, _: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._child, number)

    def _wait(self) -> int:
        """The child's wait status."""
        poll = select.poll()
        child_fd = os.pidfd_open(self._child)
        poll.register(child_fd, select.POLLIN)
        while not poll.poll(_LOOK_EVERY_S * 1e3):
            self._hear()
            self._look_at_ray()
            if self._has_overrun():
                os.kill(self._child, signal.SIGKILL)
            _reap_adopted(self._child)
        os.close(child_fd)
        return os.waitpid(self._child, 0)[1]

    def _has_overrun(self) -> bool:
        """Ray's exit handler can wait for ever for a cluster that is gone; so can a call to it."""
        if self._code is None and not self._lost_ray:
            return False
        self._ending_since_s = self._ending_since_s or time.monotonic()
        both = self._code is not None and bool(self._lost_ray)
        return both or time.monotonic() - self._ending_since_s > _END_S

    def _hear(self) -> None:
        """Takes in the exit code, where the child has told it."""
        if self._code is None and select.select([self._told], [], [], 0)[0]:
            data = os.read(self._told, 1)
            self._code = data[0] if data else None

    def _look_at_ray(self) -> None:
        """Ray's own processes are children of the child: one that was there and is gone was killed."""
        running = {pid: name for pid in children(self._child) if (name := name_of(pid)) in _RAY}
        gone = [name for pid, name in self._ray.items() if pid not in running]
        self._ray |= running
        self._lost_ray = self._lost_ray or ", ".join(gone)

    def _cause(self, status: int) -> str:
        code = os.waitstatus_to_exitcode(status)
        if self._lost_ray:
            what = f"the local Ray died: its {self._lost_ray} is gone"
        elif code < 0:
            what = f"the study's process was {signal_cause(-code)}"
        else:
            what = f"the study's process ended abruptly, with exit code {code}: Ray does so when its cluster is lost"
        return f"{what}; finished trials are kept: run the same command again to go on"


def _end_adopted() -> None:
    """Kills what the child has left until no process is ours any more: each death may hand over further ones."""
    deadline_s = time.monotonic() + _END_S
    while (left := children(os.getpid())) and time.monotonic() < deadline_s:
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        _reap_adopted()
        time.sleep(0.01)


def _reap_adopted(child: int = 0) -> None:
    """Waits for adopted processes that are dead; not for the child, whose status is still wanted."""
    for pid in children(os.getpid()):
        if pid != child:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)


def children(pid: int) -> list[int]:
    """The child processes of the main thread of a process, dead ones that nobody waited for included."""
    try:
        return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def name_of(pid: int) -> str:
    """The name of a live process; empty for a dead one."""
    try:
        head, _, rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")
    except OSError:
        return ""
    return "" if rest.split()[0] in "ZX" else head.partition("(")[2]


def _prctl(option: int, value: int) -> None:
    ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)
