"""The readings of a trial as its dataset has them, and the joules of any stretch of them, device by device."""

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from joulelaw import InputError
from joulelaw.bench.dataset.file_names import trial_files
from joulelaw.bench.dataset.storage import Place
from joulelaw.bench.dataset.table_files import read_file
from joulelaw.bench.dataset.tables import POWER, TRIALS
from joulelaw.bench.energy.energy import DeviceEnergy, window_energy
from joulelaw.bench.energy.readings import COLUMNS, DeviceReadings, by_domain


def energy_of(
    folder: Place, trial_id: str, begin_ns: int, end_ns: int, node: str | None = None
) -> dict[str, DeviceEnergy]:
    """The joules of each metered domain of a trial between two times of its node's CLOCK_MONOTONIC.

    For who reads datasets: a study itself takes them from the readings in memory. Of the committed attempt (of all
    while the trial is unfinished). One domain is held as whole arrays at a time.

    Raises:
        InputError: the trial spans nodes and none is named; a file of the table is broken, foreign or newer.
    """
    return {
        readings.domain: window_energy(readings, begin_ns, end_ns) for readings in readings_of(folder, trial_id, node)
    }


def readings_of(folder: Place, trial_id: str, node: str | None = None) -> Iterator[DeviceReadings]:
    """The readings of each metered domain of one node, whole; InputError as in `energy_of`."""
    nodes = nodes_of(folder, trial_id)
    if node is None and len(nodes) > 1:
        what, remedy = f"trial {trial_id} ran on {len(nodes)} nodes, each with its own clock", f"one of {nodes}"
        raise InputError(what, where=str(folder), remedy=remedy)
    chosen = [name for name in nodes if node in (None, name)]
    attempt = _committed_attempt(folder, trial_id)
    return by_domain(part for name in chosen for part in _parts(folder, trial_id, name, attempt))


def nodes_of(folder: Place, trial_id: str) -> list[str]:
    """The nodes that a trial has readings of."""
    return sorted({file.node for file in trial_files(folder, "power", trial_id)})


def _parts(folder: Place, trial_id: str, node: str, attempt: int | None) -> Iterator[pa.Table]:
    """File by file, in the order in which they were written."""
    for file in trial_files(folder, "power", trial_id):
        if file.node == node:
            rows = read_file(file.path, POWER, ["attempt", *COLUMNS])
            yield rows if attempt is None else rows.filter(pc.equal(rows["attempt"], attempt))


def _committed_attempt(folder: Place, trial_id: str) -> int | None:
    record = folder / "trials" / f"{trial_id}.parquet"
    if not record.is_file():
        return None
    attempt: int = read_file(record, TRIALS)["attempt"][0].as_py()
    return attempt
