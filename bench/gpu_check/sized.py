"""A sweep sized to a device by a rule: shapes from small to large, each with the batch that the device has room for.

A shape's batch is the largest power of two whose step is expected to take no longer than the shape's target, by the
law as it stands before any fit, and whose memory leaves room. So the steps of any card, small or large, span from
those that wait for launches to those that wait for products.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from joulelaw.bench.gpu_check.card import DRY_WATTS
from joulelaw.bench.gpu_check.cases import configuration
from joulelaw.bench.gpu_check.parts import BATCH, BERT_BASE, BERT_LARGE, LENGTHS
from joulelaw.bench.plan.price import counted, forecast_steps
from joulelaw.bench.plan.runnable import USABLE_MEMORY
from joulelaw.bench.spec.configuration import Configuration
from joulelaw.model.hardware import Catalogue
from joulelaw.model.laws.roofline import a_priori

BATCHES = tuple(2**power for power in range(11))
# Of the memory that a device has to use: what the closed form counts may be off by some.
ROOM = 0.75


@dataclass(frozen=True)
class Shape:
    """What to train. `target_s` is the step time to come near; 0: a micro-batch of 1."""

    family: str
    num_layers: int
    hidden_size: int
    sequence_length: int
    target_s: float
    precision: str = "16"
    """16: bf16, or fp16 where the device has no bf16."""
    accumulation: int = 1
    shared: bool = False
    """Also trained with each other strategy, on its one rank."""


SHAPES = (
    Shape("bert", 2, 128, 64, 0.0),
    Shape("bert", 4, 256, 64, 0.0),
    Shape("bert", 12, 256, 128, 0.0),
    Shape("bert", 2, 256, 128, 0.01),
    Shape("bert", 4, 512, 128, 0.02, shared=True),
    Shape("bert", 8, 512, 256, 0.04),
    Shape("bert", 12, 768, 64, 0.06),
    Shape("bert", 12, 768, 256, 0.1, shared=True),
    Shape("bert", 12, 1024, 128, 0.15),
    Shape("bert", 24, 1024, 64, 0.2),
    Shape("bert", 24, 1024, 384, 0.4),
    Shape("bert", 6, 2048, 128, 0.25),
    Shape("bert", 12, 768, 128, 0.05, "fp32"),
    Shape("bert", 12, 768, 128, 0.05, "tf32"),
    Shape("bert", 12, 512, 128, 0.1, "fp16"),
    Shape("bert", 12, 768, 128, 0.2, "16", 4),
    Shape("bert", 4, 256, 128, 0.03, "16", 4),
    Shape("gpt2", 2, 128, 64, 0.0),
    Shape("gpt2", 4, 256, 128, 0.01),
    Shape("gpt2", 6, 512, 128, 0.02),
    Shape("gpt2", 12, 768, 128, 0.05),
    Shape("gpt2", 12, 768, 512, 0.1),
    Shape("gpt2", 12, 1024, 256, 0.2, shared=True),
    Shape("gpt2", 24, 1024, 256, 0.4),
    Shape("gpt2", 6, 1024, 1024, 0.3),
    Shape("gpt2", 12, 768, 256, 0.1, "fp32"),
    Shape("gpt2", 8, 512, 128, 0.1, "16", 4),
)
# Cases of their own, so that no repeat of a case in the one study is held out in the other.
REPEATED = (
    Shape("bert", 4, 128, 128, 0.0),
    Shape("bert", 6, 512, 192, 0.03),
    Shape("bert", 12, 768, 192, 0.1),
    Shape("bert", 24, 1024, 192, 0.3),
    Shape("gpt2", 6, 384, 192, 0.03),
    Shape("gpt2", 12, 768, 192, 0.1),
)
# Of the sweep, and of the repeats: so long and no longer, however well the energy is known, as time on a lent card is.
WINDOWS_S = (12.0, 30.0)
# Shorter than the rule's own limit for the same reason: steps are steady by then, temperatures need not be.
WARM_UP_S = 4.0
OTHERS = ("ddp", "fsdp", "zero2")

TINY_SHAPES = (
    Shape("bert", 2, 64, 16, 0.0, shared=True),
    *(Shape("bert", layers, 64, length, 0.0) for layers, length in ((2, 32), (3, 16), (4, 32))),
)
TINY_REPEATED = (Shape("gpt2", 2, 64, 16, 0.0),)


def sweeps(gpu_model: str, catalogue: Catalogue, *, dry: bool) -> dict[str, str]:
    """The sweep files, by name: `sweep`, windows of 12 s, and `repeats`, a few three times with windows of 30 s."""
    sized = _sized(TINY_SHAPES if dry else SHAPES, gpu_model, catalogue)
    grids = list(sized.values())
    grids += [{**grid, "strategy": other} for shape, grid in sized.items() if shape.shared for other in OTHERS]
    if not dry:
        grids += _anchors(gpu_model, catalogue)
    repeated = list(_sized(TINY_REPEATED if dry else REPEATED, gpu_model, catalogue).values())
    seconds, long_s = (1.2, 1.5) if dry else WINDOWS_S
    return {
        "sweep": _text("gpu_check", grids, gpu_model, seconds, 1, 0.25, dry=dry),
        "repeats": _text("gpu_check_repeats", repeated, gpu_model, long_s, 2 if dry else 3, 0.0, dry=dry),
    }


def _sized(shapes: Sequence[Shape], gpu_model: str, catalogue: Catalogue) -> dict[Shape, dict[str, Any]]:
    """The grid of each shape with its batch. One that does not fit, or whose precision is not there, is left out."""
    peaks = catalogue.get(gpu_model).peak_flop_per_s
    tried = [
        (shape, batch, _configuration(shape, batch, gpu_model, peaks))
        for shape in shapes
        if _precision(shape, peaks) in peaks
        for batch in BATCHES
    ]
    found: dict[Shape, int] = {}
    judged = _judged([configuration for _, _, configuration in tried], catalogue)
    for (shape, batch, _), (step_s, fits) in zip(tried, judged, strict=True):
        if fits and (batch == 1 or step_s <= shape.target_s):
            found[shape] = max(batch, found.get(shape, 1))
    return {shape: _grid(shape, batch, peaks) for shape, batch in found.items()}


def _judged(asked: Sequence[Configuration], catalogue: Catalogue) -> list[tuple[float, bool]]:
    """The expected seconds of a step of each, and whether it fits."""
    usable = ROOM * USABLE_MEMORY * catalogue.get(asked[0].gpu_model).memory_bytes
    rows = counted(asked, catalogue)
    steps = forecast_steps(asked, a_priori(catalogue))
    return [
        (step_s if step_s is not None else float("inf"), row["memory_bytes_per_device"] <= usable)
        for row, (step_s, _) in zip(rows, steps, strict=True)
    ]


def _precision(shape: Shape, peaks: Mapping[str, float]) -> str:
    if shape.precision != "16":
        return shape.precision
    return "bf16" if "bf16" in peaks else "fp16"


def _configuration(shape: Shape, batch: int, gpu_model: str, peaks: Mapping[str, float]) -> Configuration:
    grid = _grid(shape, batch, peaks)
    return configuration(grid, gpu_model)


def _grid(shape: Shape, batch: int, peaks: Mapping[str, float]) -> dict[str, Any]:
    return {
        "model_family": shape.family,
        "num_layers": shape.num_layers,
        "hidden_size": shape.hidden_size,
        "sequence_length": shape.sequence_length,
        "micro_batch_size": batch,
        "grad_accumulation": shape.accumulation,
        "precision": _precision(shape, peaks),
    }


def _anchors(gpu_model: str, catalogue: Catalogue) -> list[dict[str, Any]]:
    """The cases of the `steps`, where they fit."""
    peaks = catalogue.get(gpu_model).peak_flop_per_s
    grids = [
        _grid(Shape("bert", model["num_layers"], model["hidden_size"], length, 0.0), BATCH, peaks)
        for model in (BERT_BASE, BERT_LARGE)
        for length in LENGTHS
    ]
    judged = _judged([configuration(grid, gpu_model) for grid in grids], catalogue)
    return [grid for grid, (_, fits) in zip(grids, judged, strict=True) if fits]


def _text(
    name: str, grids: list[dict[str, Any]], gpu_model: str, min_s: float, repeats: int, held_out: float, *, dry: bool
) -> str:
    content = {
        "schema": 1,
        "name": name,
        "description": f"Sized to {gpu_model}: see bench/gpu_check/sized.py.",
        "seed": 5,
        "defaults": {"gpu_model": gpu_model, "gpu_count": 1, "strategy": "single"},
        "grids": grids,
        "repeats": repeats,
        "window": {
            "warmup_steps": 3 if dry else 10,
            "warmup_max_s": 0.0 if dry else WARM_UP_S,
            "min_steps": 5 if dry else 20,
            "min_s": min_s,
            "max_s": 2 * min_s,
            "tolerance": 0.0,
        },
        "hold_out": {"by": "case", "fraction": held_out},
        "metering": {"meter": "estimate", "cpu_w_per_core": DRY_WATTS} if dry else {"meter": "nvml"},
        "devices": {"misfits": "set_aside"},
        "limits": {"trial_timeout_s": 300, "share_node": False},
    }
    return yaml.safe_dump(content, sort_keys=False, width=200, default_flow_style=None)
