"""Grids of axes -> configurations: a grid's own values, else the sweep's defaults, else standard ones."""

import itertools
from collections.abc import Iterator
from typing import Any

from joulelaw.bench.spec.configuration import Configuration
from joulelaw.bench.spec.files import SweepFiles
from joulelaw.bench.spec.schema import EACH, Axes, SweepSection
from joulelaw.bench.spec.yaml_lines import YamlFile, YamlPath
from joulelaw.model import recurrent
from joulelaw.model.parallelism import FSDP_TP_DEGREE

# What a grid must name, unless a checkpoint does.
REQUIRED = ("num_layers", "hidden_size", "sequence_length", "micro_batch_size")
_STANDARD: dict[str, tuple[Any, ...]] = {
    "gpu_model": (EACH,),
    "strategy": ("single",),
    "model_family": ("bert",),
    "grad_accumulation": (1,),
    "precision": ("fp32",),
    "dropout": (0.0,),
    "attention": ("sdpa",),
    "learning_rate": (1e-4,),
    "head": ("classification",),
    "tensor_parallel": (FSDP_TP_DEGREE,),
    "activation_checkpointing": (False,),
    "torch_compile": (False,),
}
# The published models' own: 30,522 word pieces, 50,257 byte pairs. Recurrent networks have none: BERT's.
VOCABULARY = {"bert": 30_522, "gpt2": 50_257, "lstm": 30_522, "gru": 30_522}
# The heads of both families' published sizes are 64 wide; the feed-forward layer is four times the width.
_HEAD_WIDTH = 64
_FFN_FACTOR = 4
_LABELS = 2


def axis_path(file: YamlFile, grid: int, axis: str) -> YamlPath:
    """Where an axis gets its values: the grid, else the defaults, else (a standard value) the grid as a whole."""
    for path in (("grids", grid, axis), ("defaults", axis)):
        if path in file.lines:
            return path
    return ("grids", grid)


def named_axes(section: SweepSection, grid: int) -> dict[str, tuple[Any, ...]]:
    """A grid's axes as far as the sweep names them, in the grid or in its defaults."""
    named: dict[str, tuple[Any, ...]] = {}
    for axes in (section.defaults, section.grids[grid]):
        named |= {axis: getattr(axes, axis) for axis in Axes.model_fields if getattr(axes, axis) is not None}
    return named


def configurations(section: SweepSection, grid: int, files: SweepFiles) -> Iterator[Configuration]:
    """The cross product of a grid's axes, the last axis fastest."""
    axes = _STANDARD | named_axes(section, grid)
    for values in itertools.product(*axes.values()):
        chosen = dict(zip(axes, values, strict=True))
        if "checkpoint" in chosen:
            saved = files.checkpoints[chosen["checkpoint"]]
            chosen |= {**saved.axes, "checkpoint": saved.folder}
        chosen.setdefault("gpu_count", 1)
        chosen.setdefault("vocab_size", VOCABULARY.get(chosen["model_family"], VOCABULARY["bert"]))
        for axis, size in _implied_sizes(chosen["model_family"], chosen["hidden_size"]).items():
            chosen.setdefault(axis, size)
        chosen.setdefault("num_labels", files.data.num_labels if files.data else _LABELS)
        chosen["tensor_parallel"] = {"tp": chosen["gpu_count"], "fsdp_tp": chosen["tensor_parallel"]}.get(
            chosen["strategy"], 1
        )
        yield Configuration(**chosen, data=files.data.named if files.data else None)


def _implied_sizes(model_family: str, hidden_size: int) -> dict[str, int]:
    """What a grid need not name. A recurrent network has no heads, and its gates are its inner width."""
    if model_family in recurrent.FAMILIES:
        gates = recurrent.FAMILIES[model_family].gates
        return {"num_heads": 1, "intermediate_size": gates * hidden_size, "input_size": hidden_size}
    return {"num_heads": max(1, hidden_size // _HEAD_WIDTH), "intermediate_size": _FFN_FACTOR * hidden_size}
