"""Grids of axes -> configurations, and the values of a grid that do not go together."""

import itertools
import math
from collections.abc import Iterator
from typing import Any

from joulelaw import InputError
from joulelaw.bench.configuration import FSDP_TP_DEGREE, Configuration
from joulelaw.bench.spec_errors import close_match
from joulelaw.bench.spec_schema import EACH, Axes, SweepSection
from joulelaw.bench.workloads import WORKLOADS
from joulelaw.bench.yaml_lines import YamlFile, YamlPath

MAX_CONFIGURATIONS = 20_000

_REQUIRED = ("num_layers", "hidden_size", "sequence_length", "micro_batch_size")
_STANDARD: dict[str, tuple[Any, ...]] = {
    "gpu_model": (EACH,),
    "strategy": ("single",),
    "model_family": ("bert",),
    "vocab_size": (30_522,),
    "grad_accumulation": (1,),
    "precision": ("fp32",),
    "num_labels": (2,),
    "dropout": (0.0,),
    "attention": ("sdpa",),
    "learning_rate": (1e-4,),
    "head": ("classification",),
    "tensor_parallel": (FSDP_TP_DEGREE,),
    "activation_checkpointing": (False,),
    "torch_compile": (False,),
}
# The heads of BERT's published sizes are 64 wide; the feed-forward layer is four times the width.
_HEAD_WIDTH = 64
_FFN_FACTOR = 4


def axis_path(file: YamlFile, grid: int, axis: str) -> YamlPath:
    """Where an axis gets its values: the grid, else the defaults, else (a standard value) the grid as a whole."""
    for path in (("grids", grid, axis), ("defaults", axis)):
        if path in file.lines:
            return path
    return ("grids", grid)


def _axes(section: SweepSection, grid: int) -> dict[str, tuple[Any, ...]]:
    """A grid's axes: its own values, else the sweep's defaults, else the standard ones."""
    named: dict[str, tuple[Any, ...]] = {}
    for axes in (section.defaults, section.grids[grid]):
        named |= {axis: getattr(axes, axis) for axis in Axes.model_fields if getattr(axes, axis) is not None}
    return _STANDARD | named


def configurations(section: SweepSection, grid: int) -> Iterator[Configuration]:
    """The cross product of a grid's axes, the last axis fastest."""
    axes = _axes(section, grid)
    for values in itertools.product(*axes.values()):
        chosen = dict(zip(axes, values, strict=True))
        chosen.setdefault("gpu_count", 1)
        chosen.setdefault("num_heads", max(1, chosen["hidden_size"] // _HEAD_WIDTH))
        chosen.setdefault("intermediate_size", _FFN_FACTOR * chosen["hidden_size"])
        chosen["tensor_parallel"] = {"tp": chosen["gpu_count"], "fsdp_tp": chosen["tensor_parallel"]}.get(
            chosen["strategy"], 1
        )
        yield Configuration(**chosen)


def grid_errors(section: SweepSection, file: YamlFile) -> list[InputError]:
    """Missing axes, too many configurations, and values that do not go together. Each is told once."""
    errors: dict[str, InputError] = {}
    total = 0
    for grid in range(len(section.grids)):
        axes = _axes(section, grid)
        total += math.prod(len(values) for values in axes.values())
        if total > MAX_CONFIGURATIONS:
            what, remedy = f"{total} configurations up to here", f"ask for at most {MAX_CONFIGURATIONS}"
            return [*errors.values(), InputError(what, where=file.where(("grids", grid)), remedy=remedy)]
        missing = [axis for axis in _REQUIRED if axis not in axes]
        found = [(axis, f"no value for {axis}", "name it in the grid or in defaults") for axis in missing]
        if not missing:
            found = [each for one in configurations(section, grid) for each in _mismatches(one, "gpu_count" in axes)]
        for axis, what, remedy in found:
            error = InputError(what, where=file.where(axis_path(file, grid, axis)), remedy=remedy)
            errors.setdefault(str(error), error)
    return list(errors.values())


def _mismatches(asked: Configuration, counted: bool) -> Iterator[tuple[str, str, str]]:
    """(axis, what is wrong, remedy) of one configuration; `counted`: the sweep itself says how many devices."""
    if asked.model_family not in WORKLOADS:
        yield "model_family", f"unknown value {asked.model_family!r}", close_match(asked.model_family, WORKLOADS)
    if asked.hidden_size % asked.num_heads:
        what = f"{asked.num_heads} heads do not divide a hidden_size of {asked.hidden_size}"
        yield "num_heads", what, f"{_nearest_divisor(asked.hidden_size, asked.num_heads)} heads do"
    if asked.strategy == "single" and asked.gpu_count > 1:
        what = f"strategy 'single' with a gpu_count of {asked.gpu_count}"
        yield "gpu_count", what, "give 'single' a grid of its own with gpu_count 1, or leave it to the plan's baselines"
    if asked.strategy != "single" and not counted:
        yield "strategy", f"strategy {asked.strategy!r} without a gpu_count", "add gpu_count, such as gpu_count: 2"
    yield from _tensor_parallel_mismatches(asked)
    if asked.vocab_size < 2 * asked.num_labels + 1:
        what = f"a vocabulary of {asked.vocab_size} cannot tell {asked.num_labels} labels apart"
        yield "vocab_size", what, f"at least {2 * asked.num_labels + 1}"


def _tensor_parallel_mismatches(asked: Configuration) -> Iterator[tuple[str, str, str]]:
    degree = asked.tensor_parallel
    axis = "gpu_count" if asked.strategy == "tp" else "tensor_parallel"
    if asked.gpu_count % degree:
        what = f"a gpu_count of {asked.gpu_count} does not divide into groups of {degree}"
        yield axis, what, f"make gpu_count a multiple of {degree}, or name another tensor_parallel"
    sizes = (
        (f"{asked.num_heads} heads", asked.num_heads),
        (f"an intermediate_size of {asked.intermediate_size}", asked.intermediate_size),
    )
    for name, number in sizes:
        if number % degree:
            what = f"a tensor-parallel degree of {degree} does not divide {name}"
            yield axis, what, f"a degree of {_nearest_divisor(number, degree)} does"


def _nearest_divisor(number: int, wanted: int) -> int:
    """The divisor of `number` nearest to `wanted`, the smaller of two; 1 divides all."""
    nearby = (near for distance in itertools.count() for near in (wanted - distance, wanted + distance))
    return next(near for near in nearby if near > 0 and number % near == 0)
