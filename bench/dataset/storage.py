"""Where a dataset lives: in a folder of this machine (a `Path`), or in an object store (an `ObjectPath`), by its URI.

Both answer to the same few calls of pathlib, so that what reads a dataset need not know which it is. An object is
there whole or not at all: each put is one request, or a multi-part upload that appears when it is complete.
"""

import fnmatch
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from joulelaw import InputError

if TYPE_CHECKING:  # the command line starts light
    import pyarrow as pa

    from joulelaw.bench.dataset.object_store import ObjectStore

# Of what pyarrow takes besides, some show a file while it is being written.
SCHEMES = ("s3", "gs", "gcs")
_AUTHORITY = re.compile(r"(?<=://)[^/@\s]*@")


def place(text: str) -> "Place":
    """The place that a command's argument names: a path, or a URI (s3://, gs://, file://) as pyarrow takes it.

    Options stand in the URI's query (`?endpoint_override=http://host:9000&region=...`), credentials in the environment
    or a profile. No object is looked for.

    Raises:
        InputError: not a URI of an object store, or one that pyarrow does not take.
    """
    scheme, separator, _ = text.partition("://")
    if not separator or not scheme.isidentifier():
        return Path(text)
    if scheme == "file":
        return Path(_file_path(text))
    if scheme not in SCHEMES:
        remedy = f"name a folder, or a URI that begins with {', '.join(f'{each}://' for each in SCHEMES)} or file://"
        raise InputError("no place for a dataset", where=f"{scheme}://", remedy=remedy)
    from joulelaw.bench.dataset.object_store import opened

    store, key = opened(text)
    return ObjectPath(store, key)


def without_credentials(uri: str) -> str:
    """A URI as it may be shown and saved."""
    return _AUTHORITY.sub("***@", uri)


class Stat(NamedTuple):
    """What is known of an object beside its content."""

    st_size: int
    st_mtime_ns: int
    st_ino: int = 0


class ObjectPath:
    """One object, or what begins with its name and a slash: a folder, which is there as long as it holds anything.

    Where the store does not answer, or refuses, every call raises StorageError with the place and what to do.
    """

    def __init__(self, store: "ObjectStore", key: str) -> None:
        self.store = store
        self.key = key.strip("/")

    def __truediv__(self, name: str) -> "ObjectPath":
        return ObjectPath(self.store, f"{self.key}/{name}")

    def __str__(self) -> str:
        return f"{self.store.scheme}://{self.key}"

    def __repr__(self) -> str:
        return f"ObjectPath({str(self)!r})"

    def __lt__(self, other: "ObjectPath") -> bool:
        return self.key < other.key

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ObjectPath) and (self.uri, str(self)) == (other.uri, str(other))

    def __hash__(self) -> int:
        return hash(str(self))

    @property
    def uri(self) -> str:
        """As a command takes it: with the options of its store, without credentials."""
        return f"{self}{self.store.options}"

    @property
    def name(self) -> str:
        return self.key.rpartition("/")[2]

    @property
    def parent(self) -> "ObjectPath":
        return ObjectPath(self.store, self.key.rpartition("/")[0])

    @property
    def parts(self) -> tuple[str, ...]:
        return tuple(self.key.split("/"))

    def resolve(self) -> "ObjectPath":
        return self

    def is_file(self) -> bool:
        return self.store.is_file(self.key)

    def is_dir(self) -> bool:
        return self.store.is_folder(self.key)

    def exists(self) -> bool:
        return self.is_file() or self.is_dir()

    def stat(self) -> Stat:
        """FileNotFoundError where there is no such object."""
        return Stat(*self.store.stat(self.key))

    def glob(self, pattern: str) -> Iterator["ObjectPath"]:
        """The objects in this folder whose names are like the pattern, which has no slash."""
        names = (name for name, _ in self.store.files(self.key))
        return (self / name for name in names if fnmatch.fnmatchcase(name, pattern))

    def read_buffer(self) -> "pa.Buffer":
        """The whole content. FileNotFoundError where there is none."""
        return self.store.read(self.key)

    def read_bytes(self) -> bytes:
        return bytes(self.read_buffer().to_pybytes())

    def read_text(self, encoding: str = "utf-8") -> str:
        return self.read_bytes().decode(encoding)

    def write_bytes(self, data: "bytes | pa.Buffer") -> None:
        """Put the object, whole, in place of what was there."""
        self.store.put(self.key, data)

    def mkdir(self, parents: bool = True, exist_ok: bool = True) -> None:
        """A folder needs no making."""

    def unlink(self, missing_ok: bool = False) -> None:
        self.store.remove(self.key, missing_ok=missing_ok)


Place = Path | ObjectPath


def files(folder: Place, pattern: str) -> list[Place]:
    """The files directly in a folder whose names are like the pattern, by name; none where there is no such folder."""
    found: Iterator[Place] = folder.glob(pattern)
    return sorted(found, key=lambda path: path.name)


def as_argument(where: Place) -> str:
    """The place as a command line takes it, without credentials."""
    return where.uri if isinstance(where, ObjectPath) else str(where)


def _file_path(uri: str) -> str:
    import pyarrow as pa
    from pyarrow import fs

    try:
        return str(fs.FileSystem.from_uri(uri)[1])
    except pa.ArrowInvalid as error:
        raise InputError(str(error), where=without_credentials(uri), remedy="a file URI is file:///a/path") from None
