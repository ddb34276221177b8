"""The names of the files in steps/ and power/. A file of another name is not the dataset's: it is neither read nor
removed, so that somebody's copy beside the original adds no row."""

import re
from collections.abc import Iterable
from typing import NamedTuple

from joulelaw.bench.dataset.storage import Place

_TRIAL = r"(?P<trial>[A-Za-z0-9_-]+-r\d+)"
_NAMES = {
    "steps": re.compile(rf"{_TRIAL}\.(?P<number>\d+)\.parquet"),
    "power": re.compile(rf"{_TRIAL}\.(?P<node>[A-Za-z0-9_-]+)\.(?P<number>\d+)\.parquet"),
}


class TrialFile(NamedTuple):
    """A file of a trial's growing table, of which each number was begun after the one before; steps have no node."""

    node: str
    number: int
    path: Place


def trial_files(folder: Place, table: str, trial_id: str) -> list[TrialFile]:
    """The files of one trial in `table` ("steps" or "power") of a dataset, by node, in the order they were written."""
    paths: Iterable[Place] = (folder / table).glob(f"{trial_id}.*.parquet")
    ours = [(found, path) for path in paths if (found := _NAMES[table].fullmatch(path.name))]
    return sorted(TrialFile(found.groupdict().get("node", ""), int(found["number"]), path) for found, path in ours)


def trial_of(path: Place) -> str:
    """The trial that a file in steps/ or power/ is of; "" where its name is not one of ours."""
    found = _NAMES[path.parent.name].fullmatch(path.name)
    return found["trial"] if found else ""
