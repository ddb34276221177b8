"""Files that are there whole or not at all, and one clear message when the disk is full or read-only."""

import errno
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from joulelaw import InputError

if TYPE_CHECKING:
    import pyarrow as pa

    from joulelaw.bench.dataset.storage import Place

_REMEDIES = {
    errno.ENOSPC: "free some space, then run the same command again: it goes on where it stopped",
    errno.EDQUOT: "free some of your quota, then run the same command again: it goes on where it stopped",
    errno.EROFS: "choose a place on a writable disk",
    errno.EACCES: "choose a place that you may write to",
    errno.EPERM: "choose a place that you may write to",
    errno.ENOTDIR: "choose another folder: a file is in the way",
    errno.EISDIR: "name a file: this is a folder",
    errno.ESTALE: "the disk's server has lost sight of it: mount it again, then run the same command again",
    errno.ENOENT: "make the folder first, or choose one that is there",
}


class StorageError(InputError):
    """The disk would not take a file.

    >>> print(StorageError("No space left on device", where="results/a/power", remedy="free some space"))
    results/a/power: No space left on device; free some space
    """


@contextmanager
def storage_errors(path: "Place") -> Iterator[None]:
    """Translate an OSError met while writing `path` into one StorageError that says what to do."""
    try:
        yield
    except OSError as error:
        what = f"cannot write: {error.strerror or error}"
        raise StorageError(what, where=str(path), remedy=_REMEDIES.get(error.errno or 0, "")) from error


def check_target(path: Path) -> None:
    """Raises StorageError where a file cannot be written to `path`: told before the work, not after it."""
    with storage_errors(path):
        if path.is_dir():
            raise _os_error(errno.EISDIR)
        if not path.parent.exists():
            raise _os_error(errno.ENOENT)
        if not path.parent.is_dir():
            raise _os_error(errno.ENOTDIR)
        tempfile.TemporaryFile(dir=path.parent).close()  # root may do what the mode forbids, but not on every disk


def check_folder(path: "Place") -> None:
    """Raises StorageError where nothing can be written to the folder `path`, or it cannot be made.

    Of an object store only the bucket is looked for: whether it takes objects shows as the folder's lease is taken.
    """
    if not isinstance(path, Path):
        path.store.check_bucket(path.key)
        return
    there = next(each for each in (path.absolute(), *path.absolute().parents) if each.exists())
    with storage_errors(path):
        if not there.is_dir():
            raise _os_error(errno.ENOTDIR)
        tempfile.TemporaryFile(dir=there).close()


def _os_error(number: int) -> OSError:
    return OSError(number, os.strerror(number))


@contextmanager
def replacing(path: Path, prepare_in: Path | None = None) -> Iterator[Path]:
    """Yield a temporary path to write to; on success it becomes `path` in one step, durably; on error it goes away.

    It lies in `prepare_in`, on the same disk: for a table not in its folder, where a reader of all would meet it.
    """
    temporary = _temporary(path, prepare_in or path.parent)
    with storage_errors(path):
        try:
            yield temporary
            _sync(temporary)
            temporary.replace(path)
            _sync(path.parent)
        except BaseException:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise


def put(path: "Place", data: "bytes | pa.Buffer", prepare_in: "Place | None" = None) -> None:
    """Replace the file at `path`, in one step; on a disk as `replacing` does."""
    put_all({path: data}, prepare_in)


def put_all(contents: "Mapping[Place, bytes | pa.Buffer]", prepare_in: "Place | None" = None) -> None:
    """Replace several files, each in one step and as `put` does; on a disk each folder of theirs is synced once."""
    folders: set[Path] = set()
    for path, data in contents.items():
        if isinstance(path, Path):
            _replace(path, data, prepare_in if isinstance(prepare_in, Path) else path.parent)
            folders.add(path.parent)
        else:
            path.write_bytes(data)
    for folder in folders:
        with storage_errors(folder):
            _sync(folder)


def _replace(path: Path, data: "bytes | pa.Buffer", prepare_in: Path) -> None:
    """As `replacing`, but for its folder: until that is synced the machine's end, not this process's, may undo it."""
    temporary = _temporary(path, prepare_in)
    with storage_errors(path):
        try:
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise


def write_text(path: "Place", text: str) -> None:
    """Replace the file at `path` by `text`, in one step."""
    put(path, text.encode())


def remove_temporaries(prepared_in: "Place", begin: str = "") -> None:
    """Remove what a killed writer was preparing: of `power/T.0.parquet`, say, the file `.power.T.0.parquet.tmp`."""
    if not isinstance(prepared_in, Path):
        return  # nothing is prepared there
    for path in prepared_in.glob(f".{begin}*.tmp"):
        path.unlink(missing_ok=True)


def _temporary(path: Path, prepare_in: Path) -> Path:
    return prepare_in / f".{path.parent.name}.{path.name}.tmp"


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
