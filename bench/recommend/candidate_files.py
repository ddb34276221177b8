"""Candidates from a file: axes to be crossed (YAML), or one candidate a row (CSV or Parquet)."""

from pathlib import Path

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, ValidationError

from joulelaw.bench.commands.law_files import read_runs, told_of
from joulelaw.bench.console import say
from joulelaw.bench.forecast.training import data_parallel_degree
from joulelaw.bench.recommend.candidates import AXES, Axes, Workload, applies, finished
from joulelaw.bench.spec.configuration import Precision, Strategy
from joulelaw.bench.spec.errors import schema_error
from joulelaw.bench.spec.schema import Axis, Count, Text
from joulelaw.bench.spec.yaml_lines import read_yaml
from joulelaw.model.columns import numbers, refuse
from joulelaw.model.hardware import Catalogue
from joulelaw.model.parallelism import FSDP_TP_DEGREE
from joulelaw.model.tables import CONFIGURATION_COLUMNS, PRE_RUN_COLUMNS, check_columns, check_configurations

YAML = (".yaml", ".yml")
SHAPE = ("model_family", "num_layers", "hidden_size", "num_heads", "intermediate_size", "vocab_size")
# What a row need not say, and is then this.
USUAL = {"node_count": 1, "grad_accumulation": 1, "activation_checkpointing": False}
FROM_WORKLOAD = ("sequence_length", "micro_steps", "boundary")


class AxesFile(BaseModel):
    """A YAML file of axes: each one value or a list of them; what is left out is as without the file."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    gpu_model: Axis[Text] = None
    gpu_count: Axis[Count] = None
    node_count: Axis[Count] = None
    strategy: Axis[Strategy] = None
    tensor_parallel: Axis[Count] = None
    micro_batch_size: Axis[Count] = None
    grad_accumulation: Axis[Count] = None
    precision: Axis[Precision] = None
    activation_checkpointing: Axis[bool] = None


def read_axes(path: Path, usual: Axes) -> Axes:
    """The axes of a YAML file. Raises InputError with the line of whatever is wrong."""
    file, _ = read_yaml(path)
    try:
        found = AxesFile.model_validate(file.data)
    except ValidationError as error:
        raise schema_error(error, file, AxesFile) from None
    return usual.with_({name: getattr(found, name) for name in AXES})


def read_candidates(path: Path, workload: Workload, axes: Axes, catalogue: Catalogue) -> pd.DataFrame:
    """The rows of a table, as `candidates.candidates` gives them; its own shapes, or those of the workload.

    Raises:
        InputError: as `read_runs`; a column missing, a value that cannot be, with its row.
    """
    table = read_runs(path)
    with told_of(path):
        needed = [name for name in CONFIGURATION_COLUMNS if name not in (*SHAPE, *USUAL, *FROM_WORKLOAD)]
        given = [name for name in SHAPE if name in table]
        if len(axes.precision) == 1 and "precision" not in table:
            table["precision"] = axes.precision[0]
        check_columns(table, [*needed, *(SHAPE if given else ())])
        used = [name for name in (*PRE_RUN_COLUMNS, "model") if name in table and name not in FROM_WORKLOAD]
        if others := [name for name in table if name not in used]:
            say(f"{path}: not looked at: {', '.join(map(str, others))}")
        table = table[used].assign(**{name: value for name, value in USUAL.items() if name not in table})
        checked = _checked(table, workload, catalogue, with_shapes=bool(given))
    if given and "model" not in checked:
        sizes = (checked[name].astype(str) for name in ("model_family", "num_layers", "hidden_size"))
        family, layers, width = sizes
        checked["model"] = family + " " + layers + " x " + width
    return finished(checked, workload)


def _checked(table: pd.DataFrame, workload: Workload, catalogue: Catalogue, *, with_shapes: bool) -> pd.DataFrame:
    """Each row with a shape, the degrees of its strategy, and nothing that cannot be."""
    if not with_shapes:
        table = table.drop(columns="model", errors="ignore").merge(workload.models, how="cross")
    length = {"sequence_length": workload.sequence_length, "micro_steps": 1}
    checked = check_configurations(table.assign(**length), catalogue).drop(columns="micro_steps")
    strategy, gpus = checked["strategy"].astype(str).to_numpy(), checked["gpu_count"].to_numpy()
    degree = np.where(strategy == "fsdp_tp", numbers(checked, "tensor_parallel", FSDP_TP_DEGREE), 1.0)
    degree = np.where(strategy == "tp", gpus, degree).astype(np.int64)
    rows = list(zip(map(str, strategy), map(int, gpus), map(int, degree), strict=True))
    refuse(checked, "gpu_count", [not applies(*row) for row in rows], "is no count that the strategy can have")
    ranks = [int(data_parallel_degree(*row)) for row in rows]
    return checked.assign(tensor_parallel=degree, data_parallel=ranks)
