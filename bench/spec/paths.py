"""Paths in a sweep: relative to the sweep file, and never outside its own folder, whatever links there are."""

from pathlib import Path

from joulelaw import InputError
from joulelaw.bench.spec.errors import seen

# Of a path in a message: the whole of most.
MOST_CHARACTERS = 200


def inside(relative: str, root: Path, where: str) -> Path:
    """A path's absolute form with every link followed, which must stay under the sweep's own folder."""
    remedy = "put it beside the sweep"
    try:
        target = (root / relative).resolve()
        there = target.exists()
    except (OSError, RuntimeError, ValueError):  # a name that is too long, a loop of links, a NUL
        raise InputError(f"{_shown(relative)} is no path", where=where, remedy=remedy) from None
    if not target.is_relative_to(root.resolve()):
        raise InputError(f"{_shown(relative)} leaves the sweep's folder", where=where, remedy=remedy)
    if not there:
        remedy = "give a path relative to the sweep file"
        raise InputError(f"no such file {_shown(relative)}", where=where, remedy=remedy)
    return target


def file_inside(relative: str, root: Path, where: str) -> Path:
    """The same for a file."""
    target = inside(relative, root, where)
    if not target.is_file():
        raise InputError(f"{_shown(relative)} is not a file", where=where, remedy="name a file, not a folder")
    return target


def folder_inside(relative: str, root: Path, where: str) -> Path:
    """A folder of files, each of which must be inside as well: a link in it may lead anywhere."""
    target = inside(relative, root, where)
    if not target.is_dir():
        raise InputError(f"{_shown(relative)} is not a folder", where=where, remedy="name the folder it was saved to")
    try:
        files = list(target.iterdir())
    except OSError as error:
        raise InputError(
            f"{_shown(relative)} cannot be read ({error.strerror})", where=where, remedy="allow it"
        ) from None
    for each in files:
        inside(str(each), root, where)
    return target


def _shown(relative: str) -> str:
    return seen(relative, MOST_CHARACTERS)
