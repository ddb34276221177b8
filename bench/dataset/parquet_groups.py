"""A Parquet file in memory to which row groups are added: each version begins with all the bytes of the one before.

    [ group 0 | footer ]        [ group 0 | footer | group 1 | footer ]        ...

A Parquet file tells at its end, in its footer, where its row groups lie; what lies between two of them is nobody's
business. So the new group goes after the old footer, encoded once, and a footer that lists every group after it.
"""

import pyarrow as pa
import pyarrow.parquet as pq

_MAGIC = b"PAR1"
# A group of fewer rows is left as it is: packing it takes longer than writing it, and saves nothing.
_PACKED_ROWS = 500


class GroupedFile:
    """The content of such a file, which never changes; b"" before the first group."""

    def __init__(self, schema: pa.Schema) -> None:
        self.content: pa.Buffer | bytes = b""
        self.rows = self.groups = 0
        self._schema = schema

    def with_group(self, group: pa.Table) -> "GroupedFile":
        """The file with one more row group."""
        told: list[pq.FileMetaData] = []
        stream = pa.BufferOutputStream()
        with _writer(stream, self._schema, told, packed=len(group) >= _PACKED_ROWS) as writer:
            stream.write(memoryview(self.content)[len(_MAGIC) :])  # it has just written the magic itself
            writer.write_table(group, row_group_size=len(group))
        written = stream.getvalue()
        if self.groups:
            index = pq.read_metadata(pa.BufferReader(self.content))
            index.append_row_groups(told[0])
            body = written.slice(0, len(written) - _footer_bytes(written))
            written = pa.py_buffer(b"".join([body, _footer(index)]))
        new = GroupedFile(self._schema)
        new.content, new.rows, new.groups = written, self.rows + len(group), self.groups + 1
        return new


def encoded(rows: pa.Table, schema: pa.Schema) -> pa.Buffer:
    """Rows as a Parquet file, in one group; none where there is none."""
    if len(rows):
        return GroupedFile(schema).with_group(rows.combine_chunks()).content
    stream = pa.BufferOutputStream()
    _writer(stream, schema, [], packed=False).close()
    return stream.getvalue()


def _writer(
    stream: pa.BufferOutputStream, schema: pa.Schema, told: list[pq.FileMetaData], *, packed: bool
) -> pq.ParquetWriter:
    """Without statistics, which would double the size of a footer.

    Only texts repeat: a dictionary of numbers is built in vain, twice the file and six times its reading. Times lie
    close together: their differences are short.
    """
    texts = [field.name for field in schema if pa.types.is_string(field.type)]
    times = {field.name: "DELTA_BINARY_PACKED" for field in schema if pa.types.is_int64(field.type)}
    return pq.ParquetWriter(
        stream,
        schema,
        compression="zstd" if packed else "none",
        use_dictionary=texts,
        column_encoding=times or None,
        write_statistics=False,
        metadata_collector=told,
    )


def _footer(index: pq.FileMetaData) -> pa.Buffer:
    stream = pa.BufferOutputStream()
    index.write_metadata_file(stream)
    return stream.getvalue().slice(len(_MAGIC))


def _footer_bytes(file: pa.Buffer) -> int:
    """The length of a file's end: the footer itself, its length in 4 bytes, and the magic."""
    return int.from_bytes(file.slice(len(file) - 8, 4).to_pybytes(), "little") + 8
