"""Sweep file (YAML) -> `Sweep`: read once, checked whole, every mistake told with its place and a remedy."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError

from joulelaw import InputError
from joulelaw.bench.spec.axes import axis_path, configurations
from joulelaw.bench.spec.checks import grid_errors
from joulelaw.bench.spec.configuration import Configuration, Window
from joulelaw.bench.spec.errors import close_match, one_error, schema_error
from joulelaw.bench.spec.files import SweepFiles, read_files
from joulelaw.bench.spec.schema import (
    EACH,
    DevicesSection,
    HoldOutSection,
    LimitsSection,
    MeteringSection,
    SweepSection,
)
from joulelaw.bench.spec.yaml_lines import EXAMPLE, YamlFile, read_yaml

SHIPPED = Path(__file__).resolve().parents[1] / "sweeps"


@dataclass(frozen=True)
class Asked:
    """One configuration that the sweep asks for, and where. Its gpu_model may still be "each"."""

    configuration: Configuration
    grid: int


@dataclass(frozen=True)
class Sweep:
    """A checked sweep. `asked` holds no configuration twice."""

    path: Path
    root: Path
    """The folder that the sweep's paths are relative to: absolute, that of the file where the sweep is a link."""
    text: str = field(repr=False)
    """The file as it was read, to be saved with the results."""
    name: str
    description: str
    seed: int
    repeats: int
    asked: tuple[Asked, ...] = field(repr=False)
    checkpoints: Mapping[str, str]
    """SHA-256 of each one's files, by its folder relative to `root`."""
    window: Window
    hold_out: HoldOutSection
    metering: MeteringSection
    """Its `replay_path` is absolute here."""
    devices: DevicesSection
    limits: LimitsSection
    file: YamlFile = field(repr=False)

    def where(self, grid: int, axis: str) -> str:
        """File, line and dotted option of an axis, for messages: the grid's own, else the default's, else the grid."""
        return self.file.where(axis_path(self.file, grid, axis))


def find_sweep(name: str | Path) -> Path:
    """A sweep's path from what the user wrote: a path, or the name of a shipped sweep such as `quickstart`."""
    path = Path(name)
    if not path.is_file() and path.name == str(name) and not path.suffix:
        shipped = {each.stem: each for each in sorted(SHIPPED.glob("*.yaml"))}
        if path.name in shipped:
            return shipped[path.name]
        remedy = f"name a YAML file or a shipped sweep: {close_match(path.name, shipped)}"
        raise InputError("no such sweep", where=str(name), remedy=remedy)
    return path


def load_sweep(name: str | Path) -> Sweep:
    """Reads and checks a sweep file.

    Raises:
        InputError: one message that holds every mistake found, a line each.
    """
    path = find_sweep(name)
    file, text = read_yaml(path)
    if not isinstance(file.data, dict):
        raise InputError("a sweep is a mapping of keys and values", where=file.where(()), remedy=EXAMPLE)
    try:
        section = SweepSection.model_validate(file.data)
    except ValidationError as error:
        raise schema_error(error, file, SweepSection) from None
    root = path.resolve().parent
    files, errors = read_files(section, root, file)
    if errors := errors or grid_errors(section, file, files):
        raise one_error(errors)
    return Sweep(
        path=path,
        root=root,
        text=text,
        name=section.name,
        description=section.description,
        seed=section.seed,
        repeats=section.repeats,
        asked=_distinct(section, files),
        checkpoints={each.folder: each.sha256 for each in files.checkpoints.values()},
        window=Window(**section.window.model_dump() | {"tolerance": section.window.tolerance or None}),
        hold_out=section.hold_out,
        metering=section.metering.model_copy(update={"replay_path": files.replay}),
        devices=section.devices,
        limits=section.limits,
        file=file,
    )


def _distinct(section: SweepSection, files: SweepFiles) -> tuple[Asked, ...]:
    first: dict[Configuration, Asked] = {}
    for grid in range(len(section.grids)):
        for configuration in configurations(section, grid, files):
            first.setdefault(configuration, Asked(configuration, grid))
    return tuple(first.values())


__all__ = ["EACH", "Asked", "Sweep", "find_sweep", "load_sweep"]
