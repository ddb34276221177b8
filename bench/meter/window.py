"""A measured stretch of time whose edges lie on ticks of the energy counter: the joules of exactly what it spans.

A counter that moves on every 20 to 100 ms knows the energy from tick to tick, and nothing of what lies between two.
So the window begins at a tick, and ends at the first one after what was measured, where one comes within `SNAP_S`;
otherwise there and then, and interpolated. Of several devices the first that ticks decides; the others are
interpolated (bench.energy), between ticks that are looked at closely around both edges. `begin_ns` and `end_ns` are
what the joules are of.
"""

import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from joulelaw import InputError
from joulelaw.bench.energy.readings import COUNTER_TICK_S
from joulelaw.bench.meter.devices import Subject, node_devices, open_for
from joulelaw.bench.meter.processes import OwnEstimate, ProcessTree
from joulelaw.bench.meter.readings import Keeper, Store
from joulelaw.bench.meter.result import Measured, MeterResult, made_result
from joulelaw.bench.study.asleep import slept_ns
from joulelaw.cluster.nodes.inventory import Device
from joulelaw.cluster.power.meter import Meter, MeterOptions
from joulelaw.cluster.power.sampler import Sampler

# The first tick after the end is waited for so long: NVML's counters move on every 20 to 100 ms.
SNAP_S = 0.15
# A window does not begin later than this for want of a tick.
PATIENCE_S = 1.0
# Read beyond both edges: every counter has then ticked on either side of them.
BEYOND_S = 0.3
# Ticks that lie between two readings this close are as well known as any.
CLOSE_S = 0.003
# A driver that hangs must not hang the program.
ANSWER_S = 2.0
_KEEP_EVERY_S = 0.25
_POLL_S = 0.001


class Window:
    """One measured stretch: made by `measured`. `result` is there once it is closed."""

    def __init__(
        self, meter: Meter, devices: Sequence[Device], rate_hz: float, of: Subject, store: Store | None
    ) -> None:
        self.meter = meter
        self.begin_ns = 0
        self._devices, self._of = devices, of
        self._end_ns: int | None = None
        self._idle_ns: tuple[int, int] | None = None
        self._slept_ns = 0
        self._result: MeterResult | None = None
        self._tree, self._watching = ProcessTree(), threading.Lock()
        self._sampler = Sampler(meter, rate_hz)
        self._keeper = Keeper(self._sampler, store)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="meter-window", daemon=True)

    @property
    def result(self) -> MeterResult:
        """The joules; only once the window is closed."""
        if self._result is None:
            raise RuntimeError("the window is still open: its result is there after the with block")
        return self._result

    def open(self, idle_s: float) -> None:
        """Begins at a tick; before that, for `idle_s` seconds, power is measured with nothing of ours at work."""
        self._thread.start()
        self._look(BEYOND_S)
        time.sleep(BEYOND_S)
        if idle_s:
            begin_ns = time.monotonic_ns()
            time.sleep(idle_s)
            self._idle_ns = (begin_ns, time.monotonic_ns())
            self._look(BEYOND_S)
            time.sleep(BEYOND_S)
        self._look(PATIENCE_S)
        self._keeper.collect()
        self.begin_ns = self._mark()
        if self._snaps:
            self.begin_ns = self._next_tick_ns(self.begin_ns, PATIENCE_S, close=True) or self._mark()
        self._slept_ns = slept_ns()
        self._look(BEYOND_S)

    def expect_end(self, in_s: float) -> None:
        """Says when the end will come, so that the ticks around it are looked at closely."""
        self._look(in_s + BEYOND_S)

    def end(self) -> None:
        """What is measured has ended now. The first call counts; leaving the with block calls it too."""
        if self._end_ns is None:
            self._end_ns = self._mark()

    def close(self) -> None:
        """Ends the window, reads on until all of it is known, and makes the result; once."""
        if self._result is not None:
            return
        self.end()
        self._look(SNAP_S + BEYOND_S)
        end_ns = asked_ns = self._end_ns or 0
        if self._snaps:
            end_ns = self._next_tick_ns(asked_ns, SNAP_S) or asked_ns
        slept_s = (slept_ns() - self._slept_ns) / 1e9
        self._keeper.wait_until(end_ns + round(self._beyond_s * 1e9), ANSWER_S)
        self.stop()
        welcome = self._of == "devices"
        measured = Measured(self._keeper.parts, self.begin_ns, end_ns, slept_s, self._idle_ns, welcome)
        self._result = made_result(self.meter, self._devices, measured)

    def stop(self) -> None:
        """Stops reading; without a result where `close` has not made one."""
        if self._over.is_set():
            return
        self._over.set()
        self._thread.join(ANSWER_S)
        self._sampler.stop()
        self._keeper.finish()

    @property
    def _beyond_s(self) -> float:
        """How far beyond an edge to read: power that is an average over a second tells of it a second later."""
        if self._keeper.ticking_domain() is not None:
            return BEYOND_S
        return BEYOND_S + max((each.power_averaged_s or 0.0 for each in self.meter.sensors.values()), default=0.0)

    @property
    def _snaps(self) -> bool:
        """Whether edges wait for ticks: not for meters whose counters move on all the time, or nearly so."""
        return self.meter.name not in COUNTER_TICK_S and self._keeper.ticking_domain() is not None

    def _look(self, seconds: float) -> None:
        if self.meter.kind == "measured":
            self._sampler.look_closely(seconds)

    def _mark(self) -> int:
        return self.meter.mark() if isinstance(self.meter, OwnEstimate) else time.monotonic_ns()

    def _next_tick_ns(self, after_ns: int, patience_s: float, close: bool = False) -> int | None:
        """The first tick after a time, as soon as it is seen; None where none comes. `close`: only one known closely,
        or the last of the others."""
        domain = self._keeper.ticking_domain()
        last_ns = after_ns + round(patience_s * 1e9)
        while True:
            late = time.monotonic_ns() > last_ns
            self._keeper.collect()
            ticks = [tick for tick in self._keeper.ticks(domain) if after_ns <= tick.time_ns <= last_ns]
            known = [tick for tick in ticks if not close or tick.width_s <= CLOSE_S] or (ticks[-1:] if late else [])
            if known:
                return known[0].time_ns
            if late:
                return None
            time.sleep(_POLL_S)

    def _keep(self) -> None:
        while not self._over.wait(_KEEP_EVERY_S):
            self._keeper.collect()
            self.watch()

    def watch(self) -> None:
        """Tells the meter which processes are ours: now and then, and at once when one is started."""
        if self._of == "devices" or self.meter.kind == "estimated":
            return
        own = [os.getpid()] if self._of == "program" else []
        with self._watching:
            pids = [*own, *self._tree.pids()]
            for device in self._devices:
                self._sampler.watch(device.uuid, pids)


@contextmanager
def measured(
    devices: Sequence[Device] | None = None,
    options: MeterOptions | None = None,
    *,
    idle_s: float = 0.0,
    of: Subject = "program",
    store: Store | None = None,
) -> Iterator[Window]:
    """Measures what runs inside the with block; on all devices of this node, by the best meter, unless told otherwise.

    `of` says whose work that is: this program's and all it starts (`program`), that of what it starts alone
    (`children`), or whatever the devices do (`devices`). Other processes on a device then make its joules invalid, or
    are welcome. `idle_s` seconds before the window give the idle power, for net energy beside gross. The window opens
    a few tenths of a second after the with block is entered, and the block is left as much later than its work ends.

    >>> options = MeterOptions(kind="estimate", cpu_w_per_core=10.0)
    >>> with measured(options=options) as window:
    ...     while time.monotonic_ns() < window.begin_ns + 1_200_000_000:
    ...         pass
    >>> (device,) = window.result.devices
    >>> device.verdict.text, window.result.meter_kind
    ('valid', 'estimated')
    >>> 0 < device.energy_j < 10.0 * 1.1 * window.result.duration_s  # at most one busy core, and the reading
    True

    Raises InputError where nothing can be metered, or not what is asked for.
    """
    options = options or MeterOptions()
    devices = node_devices(options.kind) if devices is None else devices
    meter = open_for(devices, options, of)
    if meter.kind == "estimated" and idle_s:
        meter.close()
        remedy = "leave it out: joules from CPU time are net already"
        raise InputError("an estimate has no idle power", where="--idle-seconds", remedy=remedy)
    window = Window(meter, devices, options.rate_hz, of, store)
    try:
        window.open(idle_s)
        try:
            yield window
        finally:
            window.close()
    finally:
        window.stop()
