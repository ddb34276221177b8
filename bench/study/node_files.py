"""The files that a sweep's ranks read, wherever they run: every node is asked for them before the first trial."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

from joulelaw.bench.data.text_input import FILE_IN_FOLDER
from joulelaw.bench.spec.sweep_file import Sweep
from joulelaw.bench.workloads.weight_files import weight_files

_CHUNK_BYTES = 1 << 20


def needed_files(sweep: Sweep) -> dict[str, str]:
    """SHA-256 of each file, by its path relative to the sweep's folder; none for synthetic data and random weights."""
    paths = dict.fromkeys(_paths(sweep))
    return {path.relative_to(sweep.root).as_posix(): _sha256(path) for path in paths}


def _paths(sweep: Sweep) -> Iterator[Path]:
    for name in sweep.checkpoints:
        folder = sweep.root / name
        yield from (folder / "config.json", *weight_files(folder))
    for data in dict.fromkeys(asked.configuration.data for asked in sweep.asked):
        if data is not None:
            tokenizer = sweep.root / data.tokenizer
            yield sweep.root / data.path
            yield tokenizer / FILE_IN_FOLDER if tokenizer.is_dir() else tokenizer


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
