"""What users bring and take: laws, by file or as `default`, and tables of runs, CSV or Parquet by the file's ending."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq

import joulelaw.model
from joulelaw import InputError
from joulelaw.bench.console import say
from joulelaw.bench.files import check_target, replacing
from joulelaw.model.coefficients import load_law
from joulelaw.model.hardware import Catalogue, TextFile
from joulelaw.model.laws.base import FittedLaw

ENDINGS = (".csv", ".parquet")
SEPARATORS = {"semicolons": ";", "tabs": "\t", "bars": "|"}
DEFAULT = "default"
SHIPPED = Path(joulelaw.model.__file__).with_name("default_law.json")


def open_law(law: str, devices: Sequence[TextFile] = (), catalogue: Catalogue | None = None) -> FittedLaw:
    """The law of a file, or the shipped one by the name `default`, whose notes are said on standard error.

    `devices` are TOML files of devices that it was not fitted on; or `catalogue` has them. InputError (LawFileError) as
    `load_law` raises it.
    """
    known = catalogue or Catalogue.load(devices)
    if law != DEFAULT:
        return load_law(Path(law), known)
    if not SHIPPED.is_file():
        what = "this installation ships no default law"
        raise InputError(what, where=DEFAULT, remedy="fit one on measured trials: joulelaw fit DIR --out law.json")
    fitted = load_law(SHIPPED, known)
    for note in fitted.notes:
        say(f"default law: {note}")
    return fitted


def read_table(path: Path) -> pd.DataFrame:
    """A table of runs. Empty cells, and the words nan, NA and null, are nothing, whatever the column.

    Raises:
        InputError: another ending, no such file, a file that is not what its ending says, or a column there twice.
    """
    _check_ending(path)
    if not path.is_file():
        raise InputError("no such file", where=str(path), remedy="name a table of runs")
    table = _csv(path) if path.suffix.lower() == ".csv" else _parquet(path)
    _check_once(table.column_names, path)
    frame: pd.DataFrame = table.to_pandas(ignore_metadata=True)  # a pandas index may be a column that is needed
    return frame.drop(columns=[name for name in frame if str(name).startswith("__index_level_")])


def read_runs(path: Path) -> pd.DataFrame:
    """A table of runs to forecast, less the spaces that people put behind their commas; raises as `read_table`.

    A measurement's table is read as it is: what is kept names its devices exactly.
    """
    table = read_table(path).rename(columns=lambda name: str(name).strip())
    _check_once(table.columns, path)
    texts = table.select_dtypes(["object", "string"])
    return table.assign(**{str(name): table[name].map(_stripped) for name in texts})


def _check_once(names: Iterable[str], path: Path) -> None:
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        what = f"columns there twice: {', '.join(map(repr, twice))}"
        raise InputError(what, where=str(path), remedy="keep one of each")


def _stripped(cell: object) -> object:
    return cell.strip() if isinstance(cell, str) else cell


@contextmanager
def told_of(place: Path | str) -> Iterator[None]:
    """Names the file, or the folders, in what an InputError says of "the table"."""
    try:
        yield
    except InputError as error:
        if not error.where.startswith("table"):
            raise
        where = f"{place} {error.where.removeprefix('table').lstrip(' ,')}".rstrip()
        raise type(error)(error.what, where=where, remedy=error.remedy) from None


def _csv(path: Path) -> pa.Table:
    try:
        raw = path.read_bytes()
        raw.decode()  # Arrow would hand on what is not UTF-8 as bytes
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", where=str(path)) from error
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        what = f"line {line} is not UTF-8 text (byte 0x{raw[error.start]:02x})"
        raise InputError(what, where=str(path), remedy="save it as CSV in UTF-8") from error
    if not raw.strip():
        raise InputError("the file is empty", where=str(path), remedy="bring comma-separated text with a header")
    _check_separator(path, raw)
    # One block, so that a column's type is that of all its values; Arrow counts a block's bytes in 31 bits.
    options = csv.ReadOptions(block_size=min(len(raw) + 1, 2**31 - 1))
    empty = csv.ConvertOptions(strings_can_be_null=True, quoted_strings_can_be_null=True)
    try:
        return csv.read_csv(pa.BufferReader(raw), options, csv.ParseOptions(newlines_in_values=True), empty)
    except pa.ArrowException as error:
        what = f"not a csv table ({str(error).splitlines()[0][:200]})"
        remedy = "every line needs as many commas as the first; numbers have no thousands separators"
        raise InputError(what, where=str(path), remedy=remedy) from error


def _check_separator(path: Path, raw: bytes) -> None:
    header = raw.splitlines()[0].decode()
    found = [name for name, sign in SEPARATORS.items() if sign in header]
    if "," not in header and found:
        raise InputError(f"separated by {found[0]}", where=str(path), remedy="save it with commas (and decimal points)")


def _parquet(path: Path) -> pa.Table:
    try:
        return pq.ParquetFile(path).read()
    except (pa.ArrowException, OSError) as error:
        what = f"not a parquet table ({str(error).splitlines()[0][:200]})"
        raise InputError(what, where=str(path), remedy="bring Parquet, or name it .csv where it is text") from error


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
