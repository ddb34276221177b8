"""One file of a dataset: opened, and refused with one message where it is broken, foreign or newer than this program.

Without pandas, so that what only integrates power starts light.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from joulelaw import InputError
from joulelaw.bench.dataset.storage import Place
from joulelaw.bench.dataset.tables import SCHEMA_VERSION


class UnreadableTableError(InputError):
    """A file of the dataset is not one of ours, or is broken.

    >>> print(UnreadableTableError("not a Parquet file, or cut short", where="results/a/trials/b-r0.parquet"))
    results/a/trials/b-r0.parquet: not a Parquet file, or cut short
    """


_AT_A_TIME = 16
# What every trial was like before schema 2 had a column for it; columns without an entry are null.
_BEFORE_SCHEMA_2 = {
    "head": "classification",
    "tensor_parallel": 1,
    "activation_checkpointing": False,
    "torch_compile": False,
    "checkpoint": "",
    "data": "synthetic",
}


def read_file(path: Place, schema: pa.Schema, columns: Sequence[str] = ()) -> pa.Table:
    """One file with exactly this schema, or these columns of it; files of an older one are brought up to date.

    Texts come as dictionaries where columns are named: what repeats in each row is then decoded once.
    """
    wanted = as_dictionaries(schema, columns) if columns else schema
    texts = [field.name for field in wanted if pa.types.is_dictionary(field.type)]

    def read(source: Path | pa.NativeFile) -> pa.Table:
        with pq.ParquetFile(source, read_dictionary=texts) as file:
            return file.read(list(columns) or None, use_threads=False)  # files are small: threads cost more

    return _conform(_opened(path, read), path, wanted)


def read_files(paths: Sequence[Place], schema: pa.Schema) -> list[pa.Table]:
    """Each of them; of an object store many at a time, as each takes a while to come."""
    if len(paths) < 2 or isinstance(paths[0], Path):
        return [read_file(path, schema) for path in paths]
    with ThreadPoolExecutor(_AT_A_TIME) as hands:
        return list(hands.map(lambda path: read_file(path, schema), paths))


def check_file(path: Place, schema: pa.Schema) -> None:
    """Raises as `read_file` would, on a disk from the index at the file's end alone."""
    _conform(_opened(path, pq.read_schema).empty_table(), path, schema)


def _opened(path: Place, read: Callable[[Path | pa.NativeFile], Any]) -> Any:
    """What `read` makes of a file. An object that was replaced between the requests for its parts is asked for anew."""
    for again in (True, True, False):
        try:
            return read(path if isinstance(path, Path) else pa.BufferReader(path.read_buffer()))
        except (pa.ArrowException, OSError) as error:
            if isinstance(path, Path) or isinstance(error, FileNotFoundError) or not again:
                raise _broken(path, error) from error
    return None


def _broken(path: Place, error: Exception) -> UnreadableTableError:
    what = f"not a Parquet file, or cut short ({str(error).splitlines()[0]})"
    return UnreadableTableError(what, where=str(path), remedy="move it out of the dataset")


def _conform(table: pa.Table, path: Place, wanted: pa.Schema) -> pa.Table:
    """The table with the wanted schema; refused where it is not ours or newer."""
    version = (table.schema.metadata or {}).get(b"joulelaw_schema", b"").decode(errors="replace")
    if not version.isdecimal():
        raise UnreadableTableError(
            "a Parquet file, but not JouleLaw's", where=str(path), remedy="move it out of the dataset"
        )
    if int(version) > SCHEMA_VERSION:
        what = f"written by a newer JouleLaw (schema {version}, this one reads up to {SCHEMA_VERSION})"
        raise UnreadableTableError(what, where=str(path), remedy="update joulelaw")
    if int(version) < SCHEMA_VERSION:
        table = _brought_up(table, wanted)
    if not table.schema.equals(wanted):
        odd = sorted({*table.schema.names} ^ {*wanted.names}) or ["types"]
        raise UnreadableTableError(f"columns are not those of schema {version}: {', '.join(odd)}", where=str(path))
    return table


def as_dictionaries(schema: pa.Schema, columns: Sequence[str]) -> pa.Schema:
    """These columns of a schema, texts dictionary-encoded, as Parquet stores them."""
    kinds = {
        field.name: pa.dictionary(pa.int32(), field.type) if pa.types.is_string(field.type) else field.type
        for field in schema
    }
    return pa.schema([schema.field(name).with_type(kinds[name]) for name in columns], metadata=schema.metadata)


def _brought_up(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """An older schema as this one: each only added columns."""
    for field in schema:
        if field.name not in table.schema.names:
            value = pa.scalar(_BEFORE_SCHEMA_2.get(field.name), field.type)
            table = table.append_column(field, pa.repeat(value, len(table)))
    known = [name for name in schema.names if name in table.schema.names]
    return table.select([*known, *(name for name in table.schema.names if name not in known)])
