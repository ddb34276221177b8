"""Temporary folders that end with their process: what a killed one left is removed by the next start."""

import contextlib
import fcntl
import os
import shutil
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Self

RAY_PREFIX = "jl-ray-"
FORK_PREFIX = "jl-fork-"
_MARK = ".joulelaw-scratch"  # the locked file: a folder without it is not ours to remove, whatever its name
_RANDOM_CHARACTERS = 8  # that mkdtemp adds


@dataclass
class ScratchFolder:
    """A private folder, locked by this process as long as it lives."""

    path: Path
    _lock: int

    @classmethod
    def create(cls, prefix: str, most_bytes: int) -> Self:
        """A new folder whose path has at most so many bytes, where /tmp allows it: sockets need short paths.

        Folders of the same prefix whose process is gone are removed first.
        """
        parent = Path(tempfile.gettempdir())
        if len(os.fsencode(parent / prefix)) + _RANDOM_CHARACTERS > most_bytes:
            parent = Path("/tmp")
        remove_abandoned(parent, prefix)
        while True:
            path = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
            # Until it is locked another start may take it for abandoned, and remove it.
            with contextlib.suppress(FileNotFoundError):
                lock = os.open(path / _MARK, os.O_RDWR | os.O_CREAT, 0o600)
                fcntl.flock(lock, fcntl.LOCK_EX)
                if (path / _MARK).exists():
                    return cls(path, lock)
                os.close(lock)

    def remove(self) -> None:
        _remove(self.path)
        os.close(self._lock)


def remove_all_abandoned() -> None:
    """Removes what killed processes of this user left, wherever `create` may have put it."""
    for parent in {Path(tempfile.gettempdir()), Path("/tmp")}:
        for prefix in (RAY_PREFIX, FORK_PREFIX):
            remove_abandoned(parent, prefix)


def remove_abandoned(parent: Path, prefix: str) -> None:
    """Removes this user's scratch folders of a prefix that no process holds locked.

    Not judged by a pid in their name, which may be given again, or belong to another container.
    """
    for path in parent.glob(prefix + "?" * _RANDOM_CHARACTERS):
        with contextlib.suppress(OSError):
            found = path.lstat()
            if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid():
                _remove_if_abandoned(path)


def _remove_if_abandoned(folder: Path) -> None:
    """OSError where it is in use, or not ours."""
    if not (folder / _MARK).exists():
        folder.rmdir()  # only where it is empty: of a process killed before it could lock its folder
        return
    lock = os.open(folder / _MARK, os.O_RDWR | os.O_NOFOLLOW)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _remove(folder)
    finally:
        os.close(lock)


def _remove(folder: Path) -> None:
    """All but the mark first: where a dying process still writes, the next start finds the rest by it."""
    with contextlib.suppress(OSError):
        for path in [each for each in folder.iterdir() if each.name != _MARK]:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
        (folder / _MARK).unlink()
        folder.rmdir()
