"""The files that a sweep names: inside its own folder, and read as far as a plan needs them, without torch."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from joulelaw import InputError
from joulelaw.bench.spec.data import SweepData, read_data
from joulelaw.bench.spec.errors import close_match, seen
from joulelaw.bench.spec.paths import file_inside, folder_inside
from joulelaw.bench.spec.schema import SweepSection
from joulelaw.bench.spec.yaml_lines import YamlFile, YamlPath
from joulelaw.bench.workloads.config_keys import CONFIG_KEYS
from joulelaw.bench.workloads.weight_files import content_hash, weight_files

MAX_CONFIG_BYTES = 1_000_000
MOST = 1_000_000_000


@dataclass(frozen=True)
class Checkpoint:
    """What a saved model's config.json says."""

    folder: str
    """Relative to the sweep's, with links resolved."""
    axes: Mapping[str, Any]
    """The axes that it decides, model_family among them."""
    positions: int
    sha256: str
    """Of its config.json and its weights."""


@dataclass(frozen=True)
class SweepFiles:
    """What is known of the files before anything runs."""

    checkpoints: Mapping[str, Checkpoint] = field(default_factory=dict)
    """By the value that the sweep has."""
    data: SweepData | None = None
    replay: Path | None = None


def read_files(section: SweepSection, root: Path, file: YamlFile) -> tuple[SweepFiles, list[InputError]]:
    """Every file that the sweep names, and what is wrong with them."""
    errors: list[InputError] = []
    checkpoints: dict[str, Checkpoint] = {}
    data, replay = None, None
    for path, value in _checkpoint_values(section):
        if value not in checkpoints:
            with _noted(errors):
                checkpoints[value] = _checkpoint(value, root, file.where(path))
    if section.data:
        with _noted(errors):
            data = read_data(section.data, root, file, labelled=_labelled(section))
    if section.metering.replay_path is not None:
        with _noted(errors):
            replay = file_inside(str(section.metering.replay_path), root, file.where(("metering", "replay_path")))
    return SweepFiles(checkpoints, data, replay), errors


@contextmanager
def _noted(errors: list[InputError]) -> Iterator[None]:
    try:
        yield
    except InputError as error:
        errors.append(error)


def _labelled(section: SweepSection) -> bool:
    """Whether any grid has a head that needs labels; language models are their own."""
    heads = [grid.head or section.defaults.head or () for grid in section.grids]
    return any(set(each) != {"language_model"} for each in heads)


def _checkpoint_values(section: SweepSection) -> Iterator[tuple[YamlPath, str]]:
    for value in section.defaults.checkpoint or ():
        yield ("defaults", "checkpoint"), value
    for index, grid in enumerate(section.grids):
        for value in grid.checkpoint or ():
            yield ("grids", index, "checkpoint"), value


def _checkpoint(relative: str, root: Path, where: str) -> Checkpoint:
    folder = folder_inside(relative, root, where)
    name = f"{relative}/config.json"
    path = file_inside(str(folder / "config.json"), root, where)
    try:
        with path.open("rb") as opened:
            config = json.loads(opened.read(MAX_CONFIG_BYTES))
    except (OSError, ValueError, RecursionError):
        raise InputError(f"{seen(name)} is not JSON", where=where, remedy="save the model anew") from None
    family = config.get("model_type") if isinstance(config, dict) else None
    if not isinstance(family, str) or family not in CONFIG_KEYS:
        what = f"{seen(name)} is of model_type {seen(family)}"
        raise InputError(what, where=where, remedy=close_match(family, CONFIG_KEYS))
    keys = CONFIG_KEYS[family]
    sizes = {axis: _count(size, keys.axes[axis], name, where) for axis, size in keys.sizes(config).items()}
    positions = _count(config.get(keys.positions), keys.positions, name, where)
    try:
        keys.check(config)
        sha256 = content_hash([path, *weight_files(folder)])
    except InputError as error:
        raise InputError(f"{seen(relative)}: {error.what}", where=where, remedy=error.remedy) from None
    axes = {"model_family": family, **sizes}
    return Checkpoint(folder.relative_to(root.resolve()).as_posix(), axes, positions, sha256)


def _count(value: object, key: str, name: str, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MOST:
        what = f"{key} is {seen(value)} in {seen(name)}"
        raise InputError(what, where=where, remedy=f"a whole number from 1 to {MOST}")
    return value
