"""What timings of operations leave: operations/ for the law, micro_steps/ for the sum against the whole."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from joulelaw.bench.dataset.columns import as_table
from joulelaw.bench.dataset.parquet_groups import encoded
from joulelaw.bench.dataset.storage import Place
from joulelaw.bench.dataset.table_files import read_file
from joulelaw.bench.dataset.tables import OPERATIONS, TRIALS
from joulelaw.bench.files import put, storage_errors
from joulelaw.bench.spec.configuration import Configuration
from joulelaw.model import recurrent
from joulelaw.model.operations import FLOP

WHOLE = "micro_step"  # as in `operations_timing`, which needs torch
SHAPE = ("micro_batch_size", "sequence_length", "hidden_size", "input_size")
CONFIGURATION = ("gpu_model", "model_family", "precision", "head", "attention", "num_layers", "num_heads")
SIZES = ("intermediate_size", "vocab_size")

# One row a part of one configuration's micro-step; the whole is a part named micro_step.
MICRO_STEPS = pa.schema(
    [
        *(TRIALS.field(name) for name in ("configuration_id", *CONFIGURATION, *SIZES, *SHAPE)),
        OPERATIONS.field("operation"),
        pa.field("phase", pa.string(), metadata={"note": "forward, backward, both (a whole micro-step) or step"}),
        pa.field("flop", pa.float64(), metadata={"unit": "FLOP", "note": "of one call"}),
        pa.field("calls", pa.int64(), metadata={"unit": "1", "note": "in one micro-step; 0: another takes its place"}),
        pa.field("duration_s", pa.float64(), metadata={"unit": "s", "note": "of one call, isolated: the median"}),
        pa.field("timed_calls", pa.int64(), metadata={"unit": "1", "note": "that the median is of"}),
    ],
    metadata=OPERATIONS.metadata,
)

Part = Mapping[str, Any]


@dataclass(frozen=True)
class Comparison:
    """The sum of the isolated operations beside the whole, in seconds of one micro-step."""

    p2_forward_s: float
    """Of the sum, the operations that P2 has: with fused attention, what scores and output would take instead."""
    forward_sum_s: float
    forward_s: float
    micro_step_sum_s: float
    micro_step_s: float
    optimizer_s: float

    @property
    def unexplained(self) -> float:
        """The share of the whole micro-step that the sum does not explain; negative where the sum is larger."""
        return 1 - self.micro_step_sum_s / self.micro_step_s

    @property
    def forward_unexplained(self) -> float:
        """The same of the forward pass."""
        return 1 - self.forward_sum_s / self.forward_s


def compared(parts: Sequence[Part]) -> Comparison:
    """The parts of one configuration, added up as often as a micro-step calls them."""
    sums = {"forward": 0.0, "backward": 0.0, "step": 0.0}
    whole = {part["phase"]: part["duration_s"] for part in parts if part["operation"] == WHOLE}
    for part in parts:
        if part["operation"] != WHOLE:
            sums[part["phase"]] += part["calls"] * part["duration_s"]
    both = sums["forward"] + sums["backward"]
    p2 = sum(_layer_calls(part, parts) * part["duration_s"] for part in parts if is_p2s(part))
    return Comparison(p2, sums["forward"], whole["forward"], both, whole["both"], sums["step"])


def is_p2s(part: Part) -> bool:
    """Whether the published law has a term for it."""
    return part["phase"] == "forward" and any(part["operation"] in names for names in FLOP.values())


def _layer_calls(part: Part, parts: Sequence[Part]) -> int:
    """Its calls, or those of its neighbour in the same layer where another operation takes its place."""
    layers = (each["calls"] for each in parts if each["operation"] == "final_projection")
    return part["calls"] or next(layers, 0)


def is_written(folder: Place, configuration: Configuration) -> bool:
    """Whether a configuration's timings are in the folder."""
    return _path(folder, "micro_steps", configuration).is_file()


def write_parts(folder: Place, configuration: Configuration, parts: Sequence[Part]) -> None:
    """Writes a configuration's timings, each file in one step; micro_steps/ last, which marks them as there."""
    values = configuration.to_dict()
    is_recurrent = configuration.model_family in recurrent.FAMILIES
    network = configuration.model_family if is_recurrent else "transformer"
    shape = {name: values[name] for name in SHAPE}
    forward = [part for part in parts if part["phase"] == "forward" and part["operation"] != WHOLE]
    of_law = [
        {
            **{name: part[name] for name in ("operation", "flop", "duration_s")},
            **{name: values[name] for name in ("gpu_model", "precision")},
            "model_family": network,
            **shape,
            "input_size": _input_size(part, configuration) if is_recurrent else None,
        }
        for part in forward
    ]
    named = {name: values[name] for name in (*CONFIGURATION, *SIZES)} | shape
    rows = [{"configuration_id": configuration.configuration_id, **named, **part} for part in parts]
    _write(_path(folder, "operations", configuration), as_table(of_law, OPERATIONS, "operations"))
    _write(_path(folder, "micro_steps", configuration), as_table(rows, MICRO_STEPS, "micro_steps"))


def read_parts(folder: Place, configuration: Configuration) -> list[dict[str, Any]]:
    """The parts of a configuration that is written."""
    rows: list[dict[str, Any]] = read_file(_path(folder, "micro_steps", configuration), MICRO_STEPS).to_pylist()
    return rows


def _input_size(part: Part, configuration: Configuration) -> int | None:
    """Width of what the call was given: an `input_gating` of a further layer has that of the layers."""
    width = part["flop"] / (2 * configuration.micro_batch_size * configuration.intermediate_size)
    return round(width) if part["operation"] == "input_gating" else configuration.input_size


def _path(folder: Place, table: str, configuration: Configuration) -> Place:
    return folder / table / f"{configuration.configuration_id}.parquet"


def _write(path: Place, table: pa.Table) -> None:
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    put(path, encoded(table, table.schema), path.parent.parent)
