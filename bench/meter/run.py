"""`joulelaw meter`'s two uses: a stretch of time, and a command from its start to its end."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue

from joulelaw.bench.meter.command import Command, check_command, signals_to
from joulelaw.bench.meter.readings import Store
from joulelaw.bench.meter.result import MeterResult
from joulelaw.bench.meter.window import BEYOND_S, measured
from joulelaw.cluster.nodes.inventory import Device
from joulelaw.cluster.power.meter import MeterOptions


@dataclass(frozen=True)
class Asked:
    """What is to be measured, and how."""

    devices: Sequence[Device]
    options: MeterOptions
    idle_s: float = 0.0
    store: Store | None = None


@dataclass(frozen=True)
class Outcome:
    """`interrupted`: by Ctrl-C or another signal; the joules are of the time until then."""

    result: MeterResult
    interrupted: bool
    command_exit_code: int | None = None  # as a shell has it; None without a command


def measure_stretch(asked: Asked, seconds: float | None) -> Outcome:
    """So many seconds, or until Ctrl-C; of whatever the devices do meanwhile."""
    signals: SimpleQueue[int] = SimpleQueue()  # an Event's lock may be held by what the signal interrupts
    with measured(asked.devices, asked.options, idle_s=asked.idle_s, of="devices", store=asked.store) as window:
        end_ns = None if seconds is None else window.begin_ns + round(seconds * 1e9)
        with signals_to(lambda number, frame: signals.put(number)):
            interrupted = _wait(signals, None if end_ns is None else end_ns - round(BEYOND_S * 1e9))
            if end_ns is not None and not interrupted:
                window.expect_end(max(0.0, (end_ns - time.monotonic_ns()) / 1e9))
                interrupted = _wait(signals, end_ns)
            window.close()
    return Outcome(window.result, interrupted)


def _wait(signals: SimpleQueue[int], until_ns: int | None) -> bool:
    """Whether a signal came before a time of CLOCK_MONOTONIC; None waits for one."""
    try:
        signals.get(timeout=None if until_ns is None else max(0.0, (until_ns - time.monotonic_ns()) / 1e9))
    except Empty:
        return False
    return True


def measure_command(asked: Asked, command: Sequence[str], seconds: float | None) -> Outcome:
    """The command from its start to its end, or its first so many seconds: it then goes on, and is waited for.

    Raises InputError for a command that cannot be run.
    """
    check_command(command)
    with measured(asked.devices, asked.options, idle_s=asked.idle_s, of="children", store=asked.store) as window:
        running = Command(window.end)
        with signals_to(running.pass_on):
            running.start(command)
            window.watch()
            running.wait(seconds)
            window.close()
            running.wait()
    return Outcome(window.result, running.interrupted, running.exit_code)
