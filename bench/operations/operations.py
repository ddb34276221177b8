"""`joulelaw trial SWEEP --operations`: the operations of every distinct shape of a sweep, timed alone on this machine.

Without Ray: one process on one device, as a trial's. What is in the folder already is not timed again.
"""

import shutil
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from joulelaw.bench.dataset.storage import Place
from joulelaw.bench.files import write_text
from joulelaw.bench.installed import missing_strategies
from joulelaw.bench.operations.shapes import by_length, by_memory, distinct_shapes, set_aside_by_plan, shape_label
from joulelaw.bench.operations.table import Comparison, compared, is_written, read_parts, write_parts
from joulelaw.bench.plan.making import make_plan
from joulelaw.bench.spec.configuration import Configuration
from joulelaw.bench.spec.sweep_file import load_sweep
from joulelaw.bench.study.devices import borrowed, study_catalogue
from joulelaw.bench.study.folder import connection, default_folder
from joulelaw.cluster.alone import LocalCluster
from joulelaw.cluster.failures import ClusterError
from joulelaw.cluster.ranks.gang import Gang, GangState
from joulelaw.model.laws.roofline import a_priori

ENTRY = "joulelaw.bench.operations.rank:run_operations"
LOOK_EVERY_S = 0.05
LONG, NO_MEMORY = "a micro-step would take too long here", "attention's scores, alone, do not fit in memory"


@dataclass(frozen=True)
class Timed:
    """One shape: the configuration that stands for it, its parts and their sum beside the whole."""

    configuration: Configuration
    parts: list[dict[str, Any]]
    comparison: Comparison


@dataclass(frozen=True)
class Outcome:
    """What became of the shapes of a sweep."""

    folder: Place
    shapes: list[Timed]
    already_timed: int
    skipped: dict[str, int]
    """Shapes by the reason why they were not timed."""


def time_operations(
    sweep_path: Path, trial_id: str | None, into: Place | None, tell: Callable[[str], None] = print
) -> Outcome:
    """Times the operations of a sweep's single-device trials, or of the one named, and writes them to the folder.

    Raises:
        InputError: a bad sweep, an unknown trial, or one that is not on a single device.
        ClusterError: the process that times them died, or gave no sign of life for minutes.
    """
    sweep = load_sweep(sweep_path)
    with LocalCluster.connect(**connection(sweep)) as machine:
        folder = into if into is not None else default_folder(machine.nodes, sweep.name)
        catalogue, devices_toml = study_catalogue(machine.nodes, folder / "devices.toml", partial(borrowed, machine))
        plan = make_plan(sweep, machine.nodes, catalogue, a_priori(catalogue), missing_strategies())
        asked = distinct_shapes(plan, trial_id)
        small, too_large = by_memory(asked, machine.nodes, catalogue)
        fitting, too_long = by_length(small, catalogue)
        waiting = [each for each in fitting if not is_written(folder, each)]
        folder.mkdir(parents=True, exist_ok=True)
        if devices_toml:  # the shipped catalogue lacks some of them
            write_text(folder / "devices.toml", devices_toml)
        skipped = {LONG: len(too_long), NO_MEMORY: len(too_large), **set_aside_by_plan(plan)}
        for model in dict.fromkeys(each.gpu_model for each in waiting):
            part = [each for each in waiting if each.gpu_model == model]
            with borrowed(machine, model, 1) as gang:
                timer = _Timer(gang, folder, part, tell)
                skipped[NO_MEMORY] += timer.run(sweep.root)
    written = [each for each in fitting if is_written(folder, each)]
    shapes = [Timed(each, parts, compared(parts)) for each in written for parts in [read_parts(folder, each)]]
    already = len(fitting) - len(waiting)
    return Outcome(folder, shapes, already, {reason: count for reason, count in skipped.items() if count})


class _Timer:
    """One process over some configurations: what it says is written down as it comes."""

    def __init__(
        self,
        gang: Gang,
        folder: Place,
        waiting: Iterable[Configuration],
        tell: Callable[[str], None],
    ) -> None:
        self._gang = gang
        self._folder = folder
        self._waiting = {each.configuration_id: each for each in waiting}
        self._tell = tell
        self._skipped = 0

    def run(self, root: Path) -> int:
        """Until all are timed; how many there was no memory for."""
        logs = Path(tempfile.mkdtemp(prefix="joulelaw-operations-"))
        count = len(self._waiting)
        payload = {"configurations": [each.to_dict() for each in self._waiting.values()], "root": str(root)}
        self._gang.start(ENTRY, payload, logs)
        while self._gang.state is GangState.RUNNING:
            for event in self._gang.poll():
                self._take(event, count)
            time.sleep(LOOK_EVERY_S)
        for event in self._gang.poll():
            self._take(event, count)
        if self._gang.state is not GangState.DONE:
            raise ClusterError(f"timing stopped, what was timed before is kept: {self._gang.failure}")
        shutil.rmtree(logs, ignore_errors=True)  # kept where it failed: the message names it
        return self._skipped

    def _take(self, event: dict[str, Any], count: int) -> None:
        if event["kind"] not in ("parts", "skipped"):
            return
        configuration = self._waiting.pop(event["id"])
        if event["kind"] == "skipped":
            self._skipped += 1
            return
        write_parts(self._folder, configuration, event["parts"])
        self._tell(f"{count - len(self._waiting)} of {count}: {shape_label(configuration)}")
