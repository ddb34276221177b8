"""Which files of a checkpoint's folder hold its weights. Only safetensors: pickles can run code. Needs no torch."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from joulelaw import InputError

WHOLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
ADAPTER = "adapter_config.json"
REMEDY = "save the whole model anew, with save_pretrained"
MOST_INDEX_BYTES = 50_000_000


def weight_files(folder: Path) -> tuple[Path, ...]:
    """The files that Hugging Face's library will read: the one that holds all, else those that the index names.

    The library joins the index's names to the folder as they are, and unpickles what does not end in .safetensors.
    It follows an adapter's file to the model that it names.

    Raises:
        InputError: neither is there, a name that is not a plain one of such a file, or a file that is absent.
    """
    if (folder / ADAPTER).exists():
        raise InputError(f"it has an {ADAPTER}: only whole models are loaded", remedy=REMEDY)
    names = [WHOLE] if (folder / WHOLE).is_file() else _indexed(folder / INDEX)
    for name in names:
        if PurePosixPath(name).name != name or "\\" in name or not name.endswith(".safetensors"):
            what = f"{INDEX} names {name!r:.100}, which is no .safetensors file of the same folder"
            raise InputError(what, remedy=REMEDY)
        if not (folder / name).is_file():
            raise InputError(f"{INDEX} names {name!r:.100}, which is not there", remedy=REMEDY)
    return tuple(folder / name for name in names)


def _indexed(index: Path) -> list[str]:
    if not index.is_file():
        raise InputError(f"neither {WHOLE} nor {INDEX} in it", remedy=REMEDY)
    try:
        with index.open("rb") as opened:
            names = set(json.loads(opened.read(MOST_INDEX_BYTES))["weight_map"].values())
        if names and all(isinstance(name, str) for name in names):
            return sorted(names)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        pass
    raise InputError(f"{INDEX} is not an index of weights", remedy=REMEDY)


def content_hash(paths: Iterable[Path]) -> str:
    """SHA-256 over the names and contents of files: about a second a gigabyte.

    Raises:
        InputError: a file that cannot be read.
    """
    digest = hashlib.sha256()
    for path in paths:
        try:
            with path.open("rb") as opened:
                content = hashlib.file_digest(opened, "sha256").hexdigest()
        except OSError as error:
            raise InputError(f"{path.name} cannot be read ({error.strerror})", remedy="allow it") from None
        digest.update(f"{path.name} {content}\n".encode())
    return digest.hexdigest()
