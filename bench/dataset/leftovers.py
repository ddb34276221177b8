"""What lies in steps/ and power/ beside the rows of committed trials: leftovers of attempts cut short, broken files."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from joulelaw.bench.dataset.file_names import trial_of
from joulelaw.bench.dataset.storage import Place, files
from joulelaw.bench.dataset.table_files import UnreadableTableError, check_file, read_file
from joulelaw.bench.dataset.tables import POWER, STEPS
from joulelaw.bench.files import remove_temporaries, storage_errors
from joulelaw.bench.trial.tables import Committed

_GROWING = {"steps": STEPS, "power": POWER}


def remove_leftovers(folder: Place, committed: Mapping[str, Committed]) -> None:
    """Removes what no commit stands for: of trials without a row, and of attempts later than a failed trial's row."""
    with storage_errors(folder):
        remove_temporaries(folder)
        for name, path, trial_id in _files(folder):
            last = committed.get(trial_id)
            if trial_id and (last is None or (not last.settled and _attempt(path, name) > last.attempt)):
                path.unlink()


def broken_files(folder: Place) -> list[str]:
    """What is wrong with each file in steps/ and power/ that is not read. The fit needs none of them.

    In an object store none is looked for: whatever was put is whole, and each would have to be fetched.
    """
    problems: list[str] = []
    if not isinstance(folder, Path):
        return problems
    for name, path, trial_id in _files(folder):
        try:
            check_file(path, _GROWING[name])
        except UnreadableTableError as problem:
            problems.append(str(problem))
        else:
            if not trial_id:
                problems.append(f"{path}: not the name of a trial's file; move it out of the dataset")
    return problems


def _files(folder: Place) -> Iterator[tuple[str, Place, str]]:
    """Table, file and the trial that its name tells, if it is a name of ours."""
    for name in _GROWING:
        for path in files(folder / name, "*.parquet"):
            yield name, path, trial_of(path)


def _attempt(path: Place, name: str) -> int:
    """The attempt that wrote a file: each begins files of its own. -1 where it cannot be read."""
    try:
        attempts = read_file(path, _GROWING[name], ["attempt"])["attempt"]
    except UnreadableTableError:
        return -1
    return int(attempts[0].as_py()) if len(attempts) else -1
