"""A live training from its first step to its row: what the callback and the plain loop have in common."""

import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime

import torch

from joulelaw import InputError
from joulelaw.bench.commands.law_files import open_law
from joulelaw.bench.console import say, to_people
from joulelaw.bench.live.configuration import Trained, configuration_of
from joulelaw.bench.live.devices import devices_of, meter_of, pids_on
from joulelaw.bench.live.ending import Ended, conclude
from joulelaw.bench.live.forecast import Stated, stated
from joulelaw.bench.live.going import Going
from joulelaw.bench.live.joules import LiveMeter
from joulelaw.bench.live.measured import Measured, RankPart
from joulelaw.bench.live.options import LiveOptions
from joulelaw.bench.live.ranks import AbsentError, Company, Ranks
from joulelaw.bench.live.row import Around
from joulelaw.bench.live.saving import Saving, entry_to_save, place_of, row_to_save, save
from joulelaw.bench.live.steps import Spent, StepWatch
from joulelaw.bench.live.told import Summary, log_values, notes, shown, told_forecast
from joulelaw.bench.live.unlisted import probed_link
from joulelaw.bench.live.window import Warmup
from joulelaw.bench.study.asleep import slept_ns
from joulelaw.bench.training.warmup import LONGEST_S
from joulelaw.cluster.nodes.inventory import Device
from joulelaw.model.laws.base import FittedLaw

# The other processes of the training come to its begin at about the same time (s).
MEET_S = 60.0


class TrainingRun:
    """Begun with `begin`, told of steps, ended by `end` or `abort`. One a process; the first rank speaks and writes.

    `trained` says what is trained and how, or raises InputError: then the run is metered, and gives no row.
    """

    def __init__(
        self,
        options: LiveOptions,
        model: torch.nn.Module,
        device: torch.device,
        trained: Callable[[], Trained],
        total_steps: int | None,
    ) -> None:
        self.options, self.total_steps = options, total_steps
        self.forecast: Stated | None = None
        self._device, self._trained = device, trained
        self._watch, self._told_cpu = StepWatch(model, device), Spent(every=1)
        self._meter: LiveMeter | None = None
        self._going: Going | None = None
        self._law: FittedLaw | None = None
        self._devices: list[Device] = []
        self._probing = False
        self._no_row = "" if options.into is not None else "no dataset was named to put it into (into=DIR)"

    def begin(self) -> None:
        """Before the first step: opens law and meter, and finds the other processes of the training.

        Raises:
            InputError: a law, folder or meter that cannot be used: told now, not after the training.
        """
        self._ranks = Ranks.of_this_training()
        own = self._ranks.member(self._device)
        try:
            self._company = Company(self._ranks.exchange("meet", own, MEET_S), self._ranks.rank)
        except AbsentError as error:
            self._no_row = f"{error}: every process must meter the training"
            self._ranks, self._company = Ranks(0, 1), Company([own], 0)
        if self._company.rank == 0:
            self.options.check_folder()
            if self.options.law is not None:
                self._law = open_law(self.options.law, self.options.device_files)
        if self._company.leads:
            self._open_meter()
        self._watch.attach(compiled=self._is_compiled())
        self._started_at, self._slept_ns, self._cpu_s = datetime.now(UTC), slept_ns(), time.process_time()

    def _is_compiled(self) -> bool:
        with suppress(InputError):
            return self._trained().compiled
        return False

    def _open_meter(self) -> None:
        local = self._company.local
        devices = devices_of(local)
        meter = meter_of(devices, self.options.metering)
        self._meter = LiveMeter(meter, devices, self.options.rate_of(meter.kind), lambda: self._watch.spans)
        self._meter.watch(pids_on(devices, local))
        self._going = Going(self._meter, self._ranks, self._company, self.total_steps)
        self._ranks.say("devices", devices)
        others = [leader for leader in self._company.leaders if leader]
        self._devices = list(devices)
        if self._company.rank == 0 and others:
            self._devices += [device for each in self._ranks.hear("devices", others) for device in each]

    def interrupt(self) -> None:
        """An evaluation, a checkpoint or anything else but a step comes now, or has just been."""
        self._watch.interrupt()

    def step_begins(self) -> None:
        """Before an optimizer step's first micro-step; waits for the device after an interruption only."""
        if self._watch.step_begins() and self._meter is not None:
            self._meter.look_closely(self._meter.beyond_s)

    def step_ends(self, *, skipped: bool = False) -> None:
        """After each optimizer step."""
        watch = self._watch
        with watch.spent:
            watch.step_ends(skipped)
            if not watch.detached and watch.piece.seconds > self.options.window_s + LONGEST_S["cuda"]:
                watch.detach()  # more would not be measured
            if self._going is not None and not self._going.is_warm and watch.steps >= self.options.warmup_steps:
                self._going.warm(watch.steps)
        if watch.steps == 1 and self._law is not None:
            self._state_forecast(self._law)

    def _state_forecast(self, law: FittedLaw) -> None:
        """Once the first step has shown what a micro-batch is, and what products are computed in."""
        micro, meter = self._watch.first, self._meter
        if micro is None or meter is None:
            return
        steps = self.total_steps or 1
        try:
            place = place_of(self._devices, len(self._company.hosts))
            asked = configuration_of(self._trained(), place, micro, self._watch.compute_dtype)
            self.forecast = stated(law, asked, steps * asked.grad_accumulation, meter.meter.boundary, self._devices)
        except InputError as error:
            say(f"No forecast: {error}")
            return
        for line in told_forecast(self.forecast, str(self.options.law), steps):
            say(line)

    def progress(self) -> dict[str, float | str]:
        """energy_j and energy_to_go_j (J), power_w (W), and energy_meter: which meter, and what kind of number. As of
        now; empty on all but the first rank."""
        if self._going is None or self._meter is None:
            return {}
        with self._told_cpu:
            forecast_j = self.forecast.energy_j if self.forecast and self.total_steps else None
            told = self._going.told(self._watch.steps, forecast_j)
            return log_values(told, f"{self._meter.meter.name}, {self._meter.meter.kind}")

    def end(self) -> Summary | None:
        """After the last step: measures, tells, and adds the row; the summary on the first rank, None on others.

        Nothing that goes wrong here is raised: the training itself is done, and must not be lost.
        """
        steps_cpu_s = time.process_time() - self._cpu_s
        own_cpu_s = self._hooks_cpu_s + (self._meter.whole_cpu_s if self._meter else 0.0)
        ended: Ended | None = None
        try:
            ended = self._conclude()
        except Exception as error:  # whatever it is, the training goes on to its end
            self._no_row = self._no_row or _in_words(error)
        if self._company.rank or self._meter is None:
            self._stand_by()
            return None
        measured, trial_id = ended.measured if ended else None, None
        if measured is None:
            self._no_row = self._no_row or "no step was measured: the training was over during its warm-up"
        try:
            if measured is not None and not self._no_row:
                trial_id = self._save(measured)
        except Exception as error:  # as above
            self._no_row = _in_words(error)
        self._ranks.say("probe", self._probing)  # lest they wait
        so_far, meter = self._meter.so_far(), self._meter.meter
        summary = Summary(
            energy_j=ended.energy_j if ended else so_far.energy_j,
            training_s=1e-9 * (so_far.time_ns - so_far.begin_ns),
            steps=self._watch.steps,
            meter=meter.name,
            meter_kind=meter.kind,
            boundary=meter.boundary,
            own_cpu_s=own_cpu_s,
            hooks_cpu_s=self._hooks_cpu_s,
            steps_cpu_s=steps_cpu_s,
            window=measured,
            forecast=self.forecast,
            trial_id=trial_id,
            into=None if self.options.into is None else str(self.options.into),
            no_row=self._no_row,
        )
        to_people(stderr=True).print(shown(summary))
        for note in notes(summary):
            say(note)
        self._ranks.say("over", True)
        return summary

    @property
    def _hooks_cpu_s(self) -> float:
        return self._watch.spent.cpu_s + self._told_cpu.cpu_s

    def abort(self) -> None:
        """The training broke off: no row, and nothing is left running."""
        self._watch.detach()
        if self._meter is not None:
            self._meter.stop()

    def _conclude(self) -> Ended | None:
        watch, meter = self._watch, self._meter
        watch.finish()
        slept_s = 1e-9 * (slept_ns() - self._slept_ns)
        if meter is not None:
            meter.wait_past(time.monotonic_ns() + round(1e9 * meter.beyond_s))
            meter.stop()
        peak = torch.cuda.max_memory_allocated(self._device) if self._device.type == "cuda" else None
        own = RankPart(list(watch.kept.records()), slept_s, peak)
        warmup = Warmup(self.options.warmup_steps, LONGEST_S[self._device.type])
        return conclude(self._ranks, self._company, meter, own, watch.began_ns, warmup, self.options.window_s)

    def _save(self, measured: Measured) -> str:
        began_ns = self._watch.began_ns
        around = Around(
            started_at=self._started_at,
            training_s=1e-9 * (time.monotonic_ns() - began_ns),
            began_ns=began_ns,
            threads=torch.get_num_threads(),
            backend=self._ranks.backend,
        )
        law = None if self._law is None else self._law.catalogue
        saving = Saving(self._trained(), self.options, self._watch.compute_dtype, around, law)
        row = row_to_save(saving, measured)
        return save(saving, measured, row, entry_to_save(saving, self._devices[0], self._link))

    def _link(self) -> float | None:
        """Asked for on the first rank; the others are in `_stand_by`."""
        self._probing = True
        self._ranks.say("probe", True)
        return probed_link(0, self._ranks.size, self._device)

    def _stand_by(self) -> None:
        """The first rank may have to measure the link to the others; all leave together, as they came: a process that
        ends while its group is still in use may take the others with it."""
        with suppress(Exception):  # it has gone
            (probing,) = self._ranks.hear("probe", [0])
            if probing:
                probed_link(self._company.rank, self._ranks.size, self._device)
            self._ranks.hear("over", [0])


def _in_words(error: Exception) -> str:
    known = isinstance(error, InputError | AbsentError)
    return str(error) if known else f"{type(error).__name__}: {error}"
