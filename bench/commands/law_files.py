"""Tables of runs that users bring and take: CSV or Parquet, by the file's ending."""

from pathlib import Path

import pandas as pd

from joulelaw import InputError
from joulelaw.bench.files import check_target, replacing

ENDINGS = (".csv", ".parquet")


def read_table(path: Path) -> pd.DataFrame:
    """A table of runs.

    Raises:
        InputError: another ending, no such file, or a file that is not what its ending says.
    """
    _check_ending(path)
    if not path.is_file():
        raise InputError("no such file", where=str(path), remedy="name a table of runs")
    try:
        return pd.read_csv(path) if path.suffix.lower() == ".csv" else pd.read_parquet(path)
    except (ValueError, OSError) as error:  # pandas' and Arrow's own errors are ValueErrors
        what = f"not a {path.suffix[1:].lower()} table ({str(error).splitlines()[0]})"
        raise InputError(
            what, where=str(path), remedy="bring comma-separated text with a header, or Parquet"
        ) from error


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Writes the table whole or not at all."""
    _check_ending(path)
    with replacing(path) as temporary:
        if path.suffix.lower() == ".csv":
            table.to_csv(temporary, index=False)
        else:
            table.to_parquet(temporary, index=False)


def check_writable_table(path: Path) -> None:
    """Raises InputError where `write_table` could not write there."""
    _check_ending(path)
    check_target(path)


def _check_ending(path: Path) -> None:
    if path.suffix.lower() not in ENDINGS:
        raise InputError(f"unknown ending {path.suffix!r}", where=str(path), remedy=f"one of {', '.join(ENDINGS)}")
