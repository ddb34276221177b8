"""Runs a command as if it ran alone: its streams, its signals and its end are its own; we only learn when it ended."""

import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from joulelaw import InputError
from joulelaw.bench.meter.processes import descendants

# What a terminal sends to all of its foreground processes, and what is sent to one process.
_OF_TERMINALS = (signal.SIGINT, signal.SIGQUIT)
_ENDING = (*_OF_TERMINALS, signal.SIGTERM, signal.SIGHUP)
_HOW = "name a program and its arguments as words of their own; for a line of shell: -- sh -c 'LINE'"


def check_command(command: Sequence[str]) -> None:
    """Raises InputError for a command that cannot be found: told before anything is measured."""
    if command and shutil.which(command[0]) is None:
        there = "is no program that may be run" if Path(command[0]).exists() else "no such command"
        raise InputError(f"{command[0]!r}: {there}", where="COMMAND", remedy=_HOW)


class Command:
    """A command, once started. `on_end` is called in another thread, within microseconds of its end."""

    def __init__(self, on_end: Callable[[], None]) -> None:
        self.interrupted = False
        self._process: subprocess.Popen[bytes] | None = None
        self._ended = threading.Event()
        self._on_end = on_end

    def start(self, command: Sequence[str]) -> None:
        """Raises InputError for a command that cannot be run."""
        try:
            self._process = subprocess.Popen(command)
        except OSError as error:
            raise InputError(f"{command[0]!r}: {error.strerror or error}", where="COMMAND", remedy=_HOW) from error
        threading.Thread(target=self._wait, args=[self._process], name="meter-command", daemon=True).start()
        if self.interrupted:  # before it was there
            self._process.send_signal(signal.SIGINT)

    @property
    def exit_code(self) -> int | None:
        """As a shell has it: 128 + n of a command that signal n ended; None while it runs."""
        code = None if self._process is None else self._process.returncode
        return 128 - code if code is not None and code < 0 else code

    def wait(self, seconds: float | None = None) -> bool:
        """Whether it has ended, after at most so long."""
        return self._ended.wait(seconds)

    def pass_on(self, number: int, frame: FrameType | None = None) -> None:
        """Hands a signal to the command: a Ctrl-C to all that it started, as a terminal does, others to itself alone.

        A Ctrl-C of the terminal that we share has reached it already, unless it comes a second time.
        """
        shared = number in _OF_TERMINALS and not self.interrupted and _in_foreground()
        self.interrupted = True
        if shared or self._process is None or self._ended.is_set():
            return
        pid = self._process.pid
        for each in (pid, *(descendants(pid) if number in _OF_TERMINALS else ())):
            with suppress(ProcessLookupError, PermissionError):
                os.kill(each, number)

    def _wait(self, process: subprocess.Popen[bytes]) -> None:
        process.wait()
        try:
            self._on_end()
        finally:  # whatever it raises, nobody waits for ever
            self._ended.set()


@contextmanager
def signals_to(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Ctrl-C and the like go to `handler` meanwhile; those that were ignored (nohup) stay so."""
    before = {number: signal.getsignal(number) for number in _ENDING}
    before = {number: was for number, was in before.items() if was not in (signal.SIG_IGN, None)}
    try:
        for number in before:
            signal.signal(number, handler)
        yield
    finally:
        for number, was in before.items():
            signal.signal(number, was)


def _in_foreground() -> bool:
    """Whether we are among those to whom a terminal sends its Ctrl-C; the command is in our process group."""
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)
