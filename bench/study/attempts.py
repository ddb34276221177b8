"""What earlier runs of a study did: attempts whose end nobody noted, and the devices that trials ran on."""

from typing import Any

from joulelaw.bench.dataset.dataset import Dataset, read_events
from joulelaw.bench.dataset.measurements import read_trials_table
from joulelaw.bench.study.lineup import Lineup
from joulelaw.bench.trial.tables import Committed
from joulelaw.cluster.failures import Cause


def note_lost_attempts(dataset: Dataset) -> int:
    """Notes the end of each attempt that began and whose end nobody noted. Returns how many.

    Its driver was lost: while it ran, or just after its row was committed, before the note was stored. To be
    called by a run that has the dataset to itself, before it begins any attempt.
    """
    events = read_events(dataset.folder)
    open_now: dict[str, tuple[int, list[str], list[str]]] = {}
    names = ("kind", "trial_id", "attempt", "nodes", "device_uuids")
    for kind, trial_id, attempt, nodes, uuids in zip(*(events[name] for name in names), strict=True):
        if kind == "attempt_began":
            open_now[trial_id] = int(attempt), list(nodes), list(uuids)
        elif kind == "attempt_ended":
            open_now.pop(trial_id, None)
    for trial_id, (attempt, nodes, uuids) in open_now.items():
        dataset.note(
            "attempt_ended",
            trial_id=trial_id,
            attempt=attempt,
            nodes=nodes,
            device_uuids=uuids,
            **_end(dataset.committed(trial_id), attempt),
        )
    return len(open_now)


def _end(row: Committed | None, attempt: int) -> dict[str, Any]:
    if row is not None and row.attempt >= attempt:
        cause = row.cause if row.attempt == attempt else None
        return {"cause": cause, "detail": "the study's driver was lost just after its end", "retried": False}
    return {"cause": Cause.DRIVER_LOST, "detail": "the study's driver was lost while it ran", "retried": True}


def remember_places(dataset: Dataset, lineup: Lineup) -> None:
    """Tells the line-up on which devices trials of each configuration ran, so that repeats go to others."""
    columns = ["configuration_id", "nodes", "device_uuids"]
    for row in read_trials_table(dataset.folder).select(columns).to_pylist():
        lineup.remember(row["configuration_id"], row["nodes"] or [], row["device_uuids"] or [])
