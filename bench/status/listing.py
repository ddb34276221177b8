"""The files of a dataset's table with what tells whether one has changed, for who looks again and again."""

from contextlib import suppress
from pathlib import Path

from joulelaw.bench.dataset.storage import Place

_SECOND_NS = 10**9


def listed(folder: Place) -> dict[Place, object]:
    """Each Parquet file with its version, in the order in which they were begun; none where there is no such folder."""
    if isinstance(folder, Path):
        found = _on_disk(folder)
    else:
        times = {folder / name: put_ns for name, put_ns in folder.store.files(folder.key)}
        newest_ns = max(times.values(), default=0)
        # Stores tell whole seconds: what was put in the last one may be replaced in it, and is read again.
        found = {path: put_ns if newest_ns - put_ns > _SECOND_NS else object() for path, put_ns in times.items()}
    return {path: found[path] for path in sorted(found, key=_order) if path.name.endswith(".parquet")}


def _on_disk(folder: Path) -> dict[Place, object]:
    found: dict[Place, object] = {}
    for path in folder.iterdir() if folder.is_dir() else ():
        with suppress(FileNotFoundError):  # replaced or removed meanwhile
            seen = path.stat()
            found[path] = (seen.st_ino, seen.st_size, seen.st_mtime_ns)
    return found


def _order(path: Place) -> tuple[int, str]:
    number = path.name.split(".")[-2:][0]
    return (int(number) if number.isdecimal() else 0, path.name)
