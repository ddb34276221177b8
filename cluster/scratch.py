"""Temporary folders that end with their process: what a killed one left is removed by the next start."""

import contextlib
import fcntl
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

_LOCK = "lock"
_RANDOM_CHARACTERS = 8  # that mkdtemp adds


@dataclass
class ScratchFolder:
    """A private folder, locked by this process as long as it lives."""

    path: Path
    _lock: int

    @classmethod
    def create(cls, prefix: str, most_characters: int) -> "ScratchFolder":
        """A new folder whose path has at most so many characters, where /tmp allows it: sockets need short paths.

        Folders of the same prefix whose process is gone are removed first.
        """
        parent = Path(tempfile.gettempdir())
        if len(str(parent / prefix)) + _RANDOM_CHARACTERS > most_characters:
            parent = Path("/tmp")
        remove_abandoned(parent, prefix)
        path = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        # Locked before it has its name, so that nobody takes the folder for abandoned.
        lock = os.open(path / f"{_LOCK}.new", os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
        (path / f"{_LOCK}.new").rename(path / _LOCK)
        return cls(path, lock)

    def remove(self) -> None:
        _remove(self.path)
        os.close(self._lock)


def remove_abandoned(parent: Path, prefix: str) -> None:
    """Removes this user's folders of a prefix that no process holds locked.

    Not judged by a pid in their name, which may be given again, or belong to another container.
    """
    for path in parent.glob(f"{prefix}*/{_LOCK}"):
        with contextlib.suppress(OSError):
            if path.lstat().st_uid != os.getuid():
                continue
            lock = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _remove(path.parent)
            finally:
                os.close(lock)


def _remove(folder: Path) -> None:
    """All but the lock first: where a dying process still writes, the next start finds the rest by it."""
    with contextlib.suppress(OSError):
        for path in [each for each in folder.iterdir() if each.name != _LOCK]:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
        (folder / _LOCK).unlink()
        folder.rmdir()
