"""What a schema cannot see in a sweep: values that do not go together, and more than a study can run."""

import itertools
import math
from collections.abc import Iterator
from functools import cache

from joulelaw import InputError
from joulelaw.bench.data.text_input import MASKED_FAMILIES
from joulelaw.bench.spec.axes import REQUIRED, axis_path, configurations, named_axes
from joulelaw.bench.spec.configuration import Configuration
from joulelaw.bench.spec.data import data_errors
from joulelaw.bench.spec.errors import close_match
from joulelaw.bench.spec.files import SweepFiles
from joulelaw.bench.spec.recurrent import APART, recurrent_mismatches, why_not_spread
from joulelaw.bench.spec.schema import SweepSection
from joulelaw.bench.spec.yaml_lines import YamlFile
from joulelaw.bench.training.compilation import REMEDY, why_not_compiled
from joulelaw.bench.workloads import WORKLOADS
from joulelaw.model import recurrent

# Four days of a node with 8 GPUs at 2 minutes a trial.
MAX_TRIALS = 20_000

Mismatch = tuple[str, str, str]
"""The axis, what is wrong, and what to do."""


def grid_errors(section: SweepSection, file: YamlFile, files: SweepFiles) -> list[InputError]:
    """Missing axes, too many trials, and values that do not go together. Each is told once."""
    errors: dict[str, InputError] = {}
    for error in _too_many(section, file):
        return [error]  # before any is made
    for grid in range(len(section.grids)):
        for axis, what, remedy in _grid_mismatches(section, grid, files):
            error = InputError(what, where=file.where(axis_path(file, grid, axis)), remedy=remedy)
            errors.setdefault(str(error), error)
    for error in _sweep_errors(section, file):
        errors.setdefault(str(error), error)
    if files.data and not errors:
        asked = (one for grid in range(len(section.grids)) for one in configurations(section, grid, files))
        errors = {str(error): error for error in data_errors(asked, files.data, file)}
    return list(errors.values())


def _too_many(section: SweepSection, file: YamlFile) -> Iterator[InputError]:
    total = 0
    for grid in range(len(section.grids)):
        total += math.prod(len(values) for values in named_axes(section, grid).values())
        if total > MAX_TRIALS:
            what, remedy = f"{total} configurations up to here", f"ask for at most {MAX_TRIALS}"
            yield InputError(what, where=file.where(("grids", grid)), remedy=remedy)
    if total * section.repeats > MAX_TRIALS:
        what = f"{total} configurations, {section.repeats} times each, are {total * section.repeats} trials"
        yield InputError(what, where=file.where(("repeats",)), remedy=f"ask for at most {MAX_TRIALS}")


def _sweep_errors(section: SweepSection, file: YamlFile) -> Iterator[InputError]:
    """What concerns more than one grid."""
    grids = [named_axes(section, grid) for grid in range(len(section.grids))]
    if section.window.warmup_steps == 0 and any(True in axes.get("torch_compile", ()) for axes in grids):
        what = "0 with torch_compile: the first step compiles, and would be measured"
        yield InputError(what, where=file.where(("window", "warmup_steps")), remedy="write at least 1")
    split = any("fsdp_tp" in axes.get("strategy", ()) for axes in grids)
    if section.defaults.tensor_parallel is not None and not split:
        yield InputError(_UNUSED, where=file.where(("defaults", "tensor_parallel")), remedy=_LEAVE_OUT)


# Axes that every checkpoint decides and a grid must name without one.
_SAVED = ("num_layers", "hidden_size")
_UNUSED = "a tensor_parallel degree, but no strategy 'fsdp_tp' that would use it"
_LEAVE_OUT = "leave it out: 'tp' splits each layer over all gpu_count devices"


def _grid_mismatches(section: SweepSection, grid: int, files: SweepFiles) -> Iterator[Mismatch]:
    axes = named_axes(section, grid)
    if section.grids[grid].tensor_parallel is not None and "fsdp_tp" not in axes.get("strategy", ()):
        yield "tensor_parallel", _UNUSED, _LEAVE_OUT
    against = list(_checkpoint_mismatches(section, grid, files))
    missing = [axis for axis in REQUIRED if axis not in axes and not ("checkpoint" in axes and axis in _SAVED)]
    yield from against
    yield from ((axis, f"no value for {axis}", "name it in the grid or in defaults") for axis in missing)
    if not missing and not against:
        for one in configurations(section, grid, files):
            yield from mismatches(one, "gpu_count" in axes)


def _checkpoint_mismatches(section: SweepSection, grid: int, files: SweepFiles) -> Iterator[Mismatch]:
    """Axes that a checkpoint decides, named beside it with another value."""
    axes = named_axes(section, grid)
    for name in axes.get("checkpoint", ()):
        saved = files.checkpoints[name]
        for axis, value in saved.axes.items():
            for other in axes.get(axis, ()):
                if other != value:
                    yield axis, f"{other!r}, but the checkpoint {name!r} has {value!r}", "leave it to the checkpoint"
        for length in axes.get("sequence_length", ()):
            if length > saved.positions:
                what = f"{length} tokens, but the checkpoint {name!r} has {saved.positions} positions"
                yield "sequence_length", what, f"at most {saved.positions}"


def mismatches(asked: Configuration, counted: bool = True) -> Iterator[Mismatch]:
    """What is wrong with one configuration; `counted`: who asks for it also says how many devices."""
    if asked.model_family not in WORKLOADS:
        yield "model_family", f"unknown value {asked.model_family!r}", close_match(asked.model_family, WORKLOADS)
    if reason := why_not_spread(asked):
        yield "strategy", reason, f"single, {APART}"
        return
    yield from recurrent_mismatches(asked) if asked.model_family in recurrent.FAMILIES else _size_mismatches(asked)
    if asked.strategy == "single" and asked.gpu_count > 1:
        what = f"strategy 'single' with a gpu_count of {asked.gpu_count}"
        yield "gpu_count", what, "give 'single' a grid of its own with gpu_count 1, or leave it to the plan's baselines"
    if asked.strategy != "single" and not counted:
        yield "strategy", f"strategy {asked.strategy!r} without a gpu_count", "add gpu_count, such as gpu_count: 2"
    else:
        yield from _tensor_parallel_mismatches(asked)
    if reason := why_not_compiled(asked):
        yield "torch_compile", reason, REMEDY
    if asked.gpu_count % asked.node_count:
        what = f"a gpu_count of {asked.gpu_count} does not spread evenly over {asked.node_count} nodes"
        yield "node_count", what, f"make gpu_count a multiple of {asked.node_count}"
    yield from _text_mismatches(asked)


def _size_mismatches(asked: Configuration) -> Iterator[Mismatch]:
    """Of a Transformer."""
    if asked.input_size is not None:
        what = f"an input_size, and the embeddings of {asked.model_family} are as wide as its layers"
        yield "input_size", what, f"leave it out, {APART}"
    if asked.hidden_size % asked.num_heads:
        what = f"{asked.num_heads} heads do not divide a hidden_size of {asked.hidden_size}"
        yield "num_heads", what, f"{_nearest_divisor(asked.hidden_size, asked.num_heads)} heads do"


def _text_mismatches(asked: Configuration) -> Iterator[Mismatch]:
    if asked.data is None and asked.vocab_size < 2 * asked.num_labels + 1:  # what synthetic texts are made of
        what = f"a vocabulary of {asked.vocab_size} cannot tell {asked.num_labels} labels apart"
        yield "vocab_size", what, f"at least {2 * asked.num_labels + 1}"
    is_causal = asked.head == "language_model" and asked.model_family not in MASKED_FAMILIES
    if is_causal and asked.sequence_length == 1:
        yield "sequence_length", "1 token: a causal language model predicts the next, and there is none", "at least 2"


def _tensor_parallel_mismatches(asked: Configuration) -> Iterator[Mismatch]:
    degree = asked.tensor_parallel
    axis = "gpu_count" if asked.strategy == "tp" else "tensor_parallel"
    if asked.gpu_count % degree:
        what = f"a gpu_count of {asked.gpu_count} does not divide into groups of {degree}"
        yield "gpu_count", what, f"make gpu_count a multiple of {degree}, or name another tensor_parallel"
    sizes = (
        (f"{asked.num_heads} heads", asked.num_heads),
        (f"an intermediate_size of {asked.intermediate_size}", asked.intermediate_size),
    )
    for name, number in sizes:
        if number % degree:
            what = f"a tensor-parallel degree of {degree} does not divide {name}"
            yield axis, what, f"a degree of {_nearest_divisor(number, degree)} does"


@cache
def _nearest_divisor(number: int, wanted: int) -> int:
    """The divisor of `number` nearest to `wanted`, the smaller of two."""
    small = [each for each in range(1, math.isqrt(number) + 1) if number % each == 0]
    return min(itertools.chain(small, (number // each for each in small)), key=lambda each: (abs(each - wanted), each))
