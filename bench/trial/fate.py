"""What becomes of an attempt that is over: another one, or the trial's row; noted either way with its cause."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from joulelaw.bench.dataset.dataset import Dataset
from joulelaw.bench.energy.idle import IdleByDomain
from joulelaw.bench.spec.schema import LimitsSection
from joulelaw.bench.study.fleet import Fleet
from joulelaw.bench.study.lineup import Lineup, expected_device_s
from joulelaw.bench.study.power_feed import lost_meter
from joulelaw.bench.study.probed_links import ProbedLinks
from joulelaw.bench.study.progress import StudyProgress
from joulelaw.bench.trial.advice import has_joules
from joulelaw.bench.trial.checks import may_pass
from joulelaw.bench.trial.end import METER_LOST, ended_row
from joulelaw.bench.trial.row import of_its_cluster
from joulelaw.bench.trial.running import RunningTrial
from joulelaw.cluster.failures import Cause
from joulelaw.cluster.ranks.rank_failures import in_order
from joulelaw.cluster.scheduling.retries import NextStep, next_step

# A trial that something passing made invalid is measured once more.
SPOILT_TRIES = 2


@dataclass(frozen=True)
class TrialEnder:
    """Ends attempts: what every one of them needs of the study."""

    dataset: Dataset
    fleet: Fleet
    lineup: Lineup
    limits: LimitsSection
    progress: StudyProgress
    links: ProbedLinks

    def give_up_if_hopeless(self, trial: RunningTrial) -> None:
        """Ends the ranks of a trial of which nothing can come any more."""
        if trial.no_number:
            trial.give_up(Cause.NAN_LOSS, trial.no_number)  # be its ranks through already
        elif trial.over:
            return
        elif trial.lost_gpus:
            trial.give_up(Cause.GPU_LOST, f"the driver has lost {', '.join(sorted(trial.lost_gpus))}")
        elif trial.elapsed_s > self.limits.trial_timeout_s:
            what = f"not over after limits.trial_timeout_s = {self.limits.trial_timeout_s:g} s"
            trial.give_up(Cause.TRIAL_TIMEOUT, what)
        elif trial.is_blind and lost_meter(self.fleet, trial):
            trial.give_up(Cause.SAMPLER_LOST, METER_LOST)

    def let_go(self, trial: RunningTrial) -> None:
        """Its ranks are gone: its devices are free for others, those that are lost excepted."""
        uuids = [device.uuid for device in trial.gang.devices]
        if lost := _lost_devices(trial):
            self.fleet.retire(lost)
            what = f"taken out of use for the rest of the run: {trial.failure}"
            place = trial.gang.node_ids
            self.dataset.note("device_lost", nodes=place, device_uuids=lost, cause=Cause.GPU_LOST, detail=what)
            self.progress.tell(f"{', '.join(lost)} {what}")
        self.fleet.release(trial.gang)
        self.lineup.end(trial.trial_id)
        self.lineup.remember(trial.planned.spec.configuration.configuration_id, trial.gang.node_ids, uuids)

    def end(self, trial: RunningTrial, idle: IdleByDomain) -> dict[str, Any] | None:
        """The trial's row, which is stored now; None where it is tried again."""
        row = ended_row(trial, self.fleet, idle) | of_its_cluster(trial, self.fleet.nodes, self.links)
        self.lineup.tries[trial.trial_id] += 1
        step = self._step(trial, row)
        if row["status"] != "done":
            self.dataset.check_disk()  # a rank that could not write its log has failed for that
            row |= self._keep_logs(trial, row["failure"])
        if step == "retry":
            self._again(trial, row)
            self.note_end(trial, retried=True, row=row)
            return None
        trial.tables.finish(row)
        self.note_end(trial, retried=False, row=row)  # after it: what is told to have ended has its row
        self.lineup.settled(trial.trial_id)
        label, device_s = trial.planned.spec.configuration.label, expected_device_s([trial.planned])
        self.progress.finished(row, label, device_s)
        return {"trial_id": trial.trial_id, "attempt": trial.attempt, **row}

    def note_end(
        self, trial: RunningTrial, *, retried: bool, row: dict[str, Any] | None = None, cause: Cause | None = None
    ) -> None:
        """An attempt that began is over; `cause` where it was not its own."""
        row = row or {"failure": "", "verdict": "valid", "reasons": []}
        invalid = f"invalid: {', '.join(row['reasons'])}" if row["verdict"] != "valid" else ""
        self.dataset.note(
            "attempt_ended",
            trial_id=trial.trial_id,
            attempt=trial.attempt,
            nodes=trial.gang.node_ids,
            device_uuids=[device.uuid for device in trial.gang.devices],
            cause=cause or trial.cause,
            detail=row["failure"] or invalid,
            retried=retried,
        )

    def _step(self, trial: RunningTrial, row: dict[str, Any]) -> NextStep:
        tries, cause = self.lineup.tries[trial.trial_id], trial.cause
        if cause is None:
            spoilt = row["verdict"] == "invalid" and may_pass(row["reasons"], trial.window.min_s)
            once_more = spoilt and tries < SPOILT_TRIES and has_joules(trial, self.fleet.meters)
            return "retry" if once_more else "result"
        if _wants_the_node(trial) and tries < self.limits.tries:
            return "retry"
        return next_step(cause, tries, self.limits.tries)

    def _again(self, trial: RunningTrial, row: dict[str, Any]) -> None:
        trial.tables.close()  # its last steps and readings tell of what happened
        self.lineup.again(trial.trial_id, alone=_wants_the_node(trial))
        why = row["failure"] or ", ".join(row["reasons"])
        self.progress.again(trial.planned.spec.configuration.label, f"{trial.cause}: {why}" if trial.cause else why)

    def _keep_logs(self, trial: RunningTrial, failure: str) -> dict[str, str]:
        """Logs from other nodes go where the others are; the row then names them there. A lost node's are lost."""
        if trial.log_dir is None:  # no rank was started
            return {}
        kept = {rank: text for rank, text in trial.gang.log_ends.items() if text}
        for rank, text in kept.items():
            self.dataset.save_log(trial.trial_id, trial.attempt, _log_name(rank), text)
        where = f"logs/{trial.log_dir.name}/"
        told = {}
        if not isinstance(self.dataset.folder, Path):
            told["failure"] = failure.replace(f"{trial.log_dir}/", where)
        first = next(iter(in_order(trial.gang.failures)), None)
        rank = first.rank if first else 0
        if rank in kept or (trial.log_dir / _log_name(rank)).is_file():
            told["log"] = where + _log_name(rank)
        return told


def _log_name(rank: int) -> str:
    """As gangs name it."""
    return f"rank{rank}.log"


def _wants_the_node(trial: RunningTrial) -> bool:
    """The host's memory ran out while others used it too: alone on its node the trial may fit."""
    failures = in_order(trial.gang.failures)
    by_host = bool(failures) and failures[0].cause is Cause.OUT_OF_MEMORY and failures[0].of_host
    return by_host and bool(trial.shared_with)


def _lost_devices(trial: RunningTrial) -> list[str]:
    """By what the meters' driver says of them, and their ranks."""
    devices = trial.gang.devices
    told = {devices[each.rank].uuid for each in trial.gang.failures if each.cause is Cause.GPU_LOST}
    return sorted(told | trial.lost_gpus)
