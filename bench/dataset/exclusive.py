"""One writer at a time: a lock on a folder of this machine, a lease in an object store."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

from joulelaw import InputError
from joulelaw.bench.dataset.lease import Lease, LeaseHeldError, holder_of_lease
from joulelaw.bench.dataset.storage import Place
from joulelaw.bench.files import StorageError, storage_errors

# `joulelaw status` holds the lock no longer, to see whether somebody has it.
_LOOK_S = 0.05
_REMEDY = "wait for it to end, or choose --into"


class DatasetError(InputError):
    """The folder cannot be used for this study.

    >>> print(DatasetError("another run is writing to it (process 71)", where="results/a", remedy="wait for it to end"))
    results/a: another run is writing to it (process 71); wait for it to end
    """


class Exclusive(Protocol):
    """The right to write to a folder."""

    def check(self) -> None:
        """Raises StorageError where it is no longer ours, or the folder no longer there."""
        ...

    def close(self) -> None: ...


def taken(folder: Place) -> Exclusive:
    """The right to write to a folder, which is there. It ends with this process, however that ends.

    Raises:
        DatasetError: another run has it.
        StorageError: the folder does not take it.
    """
    if isinstance(folder, Path):
        with storage_errors(folder):
            return FolderLock(folder)
    try:
        return Lease.take(folder)
    except LeaseHeldError as held:
        raise DatasetError(f"another run is writing to it ({held})", where=str(folder), remedy=_REMEDY) from None


@contextmanager
def locked(folder: Place) -> Iterator[None]:
    """Holds the right to write to a folder that is no study's, such as an imported one; made where it is not there."""
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    right = taken(folder)
    try:
        yield
    finally:
        right.close()


def writer_of(folder: Place) -> str:
    """Who writes to the folder now, in words; "" where nobody does."""
    if not isinstance(folder, Path):
        return holder_of_lease(folder)
    with suppress(OSError):  # none was ever taken
        lock = os.open(folder / "lock", os.O_RDONLY)
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return f"process {_written(lock)}"
        finally:
            os.close(lock)
    return ""


class FolderLock:
    """An exclusive lock (flock) on the file `lock` of a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            self._take()
        except BlockingIOError as error:
            holder = _written(self._file)
            os.close(self._file)
            what = f"another run is writing to it (process {holder})" if holder else "another run is writing to it"
            raise DatasetError(what, where=str(folder), remedy=_REMEDY) from error
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, str(os.getpid()).encode(), 0)

    def _take(self) -> None:
        with suppress(BlockingIOError):
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        time.sleep(_LOOK_S)  # perhaps somebody only looks whether it is taken
        fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def check(self) -> None:
        """What is there now under the folder's name may be another."""
        with storage_errors(self._folder):
            try:
                same = os.path.samestat((self._folder / "lock").stat(), os.fstat(self._file))
            except (FileNotFoundError, NotADirectoryError):
                same = False
        if not same:
            remedy = "put it back, or run the same command again in a new folder"
            raise StorageError("the folder was removed while the study ran", where=str(self._folder), remedy=remedy)

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def _written(lock: int) -> str:
    return os.pread(lock, 32, 0).decode(errors="replace").strip()
