"""How a trial begins: a group for it, its tables, a note of the attempt, cool devices, and then its ranks."""

from collections.abc import Collection
from pathlib import Path

from joulelaw.bench.dataset.dataset import Dataset
from joulelaw.bench.plan.plan import PlannedTrial
from joulelaw.bench.spec.schema import MeteringSection
from joulelaw.bench.study.cooling import is_cool
from joulelaw.bench.study.fleet import Fleet
from joulelaw.bench.study.probed_links import ProbedLinks
from joulelaw.bench.trial.advice import sensor_update_s, window_of
from joulelaw.bench.trial.running import RunningTrial
from joulelaw.cluster.ranks.gang import RankGang


class TrialStarter:
    """`root` is the sweep's folder, which the files that configurations name are relative to."""

    def __init__(
        self, dataset: Dataset, fleet: Fleet, metering: MeteringSection, links: ProbedLinks, root: Path
    ) -> None:
        self._dataset = dataset
        self._fleet = fleet
        self._metering = metering
        self._links = links
        self._root = root

    def begin(self, planned: PlannedTrial, gang: RankGang, running: Collection[RunningTrial]) -> RunningTrial:
        """The trial on its group, noted before its first rank starts: a driver that dies leaves its attempt open."""
        attempt = self._dataset.next_attempt(planned.trial_id)
        losses = {node: count for node, count in self._fleet.meter_losses.items() if node in gang.node_ids}
        tables = self._dataset.start_trial(planned.trial_id, attempt)
        trial = RunningTrial(planned, gang, tables, attempt, meter_losses=losses)
        uuids = [device.uuid for device in gang.devices]
        self._dataset.note(
            "attempt_began", trial_id=planned.trial_id, attempt=attempt, nodes=gang.node_ids, device_uuids=uuids
        )
        _note_neighbours(trial, running)
        self.launch_if_cool(trial)
        return trial

    def launch_if_cool(self, trial: RunningTrial) -> None:
        """Starts the ranks, unless their devices are still too warm."""
        if not is_cool(trial, self._metering):
            return
        if self._metering.cooldown_c is not None:
            trial.cooldown_s = trial.elapsed_s
        trial.window = window_of(trial, self._fleet.meters)
        update_s = sensor_update_s(trial, self._fleet.meters)
        probe = self._links.missing(device.uuid for device in trial.gang.devices)
        trial.start(self._dataset.log_folder(trial.trial_id, trial.attempt), self._root, update_s, probe=probe)


def _note_neighbours(new: RunningTrial, running: Collection[RunningTrial]) -> None:
    """Who shares a node with whom."""
    for other in running:
        if set(other.gang.node_ids) & set(new.gang.node_ids):
            for one, two in ((new, other), (other, new)):
                one.shared_with.add(two.trial_id)
                one.busy_devices |= {device.uuid for device in two.gang.devices}
