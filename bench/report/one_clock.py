"""A trial on one axis of time, be it on several nodes: each node's clock counts from where the window begins on it."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from joulelaw.bench.dataset.measurements import read_steps
from joulelaw.bench.energy.readings import DeviceReadings
from joulelaw.bench.energy.stored_power import readings_of
from joulelaw.bench.report.study import Study

Row = Mapping[Any, Any] | pd.Series
NS = 1e-9


def timed_steps(study: Study, row: Row) -> pd.DataFrame:
    """A trial's steps with their `node`, their `s`, and `end_s`: seconds since the window began on that node."""
    steps = _on_nodes(read_steps(study.folder, row["trial_id"]), row)
    begin_ns = steps["node"].map(window_begins(row, steps))
    return steps.assign(s=(steps["end_ns"] - steps["begin_ns"]) * NS, end_s=(steps["end_ns"] - begin_ns) * NS)


def timed_readings(study: Study, row: Row, steps: pd.DataFrame) -> list[tuple[DeviceReadings, int]]:
    """The readings of each metered domain, by node and name, with when (ns) the window began on their node's clock.

    `steps` are those of `timed_steps`.
    """
    return [
        (readings, begin_ns)
        for node, begin_ns in window_begins(row, steps).items()
        for readings in sorted(readings_of(study.folder, row["trial_id"], node or None), key=lambda each: each.domain)
    ]


def window_begins(row: Row, steps: pd.DataFrame) -> dict[str, int]:
    """Where the window begins in ns of each node's CLOCK_MONOTONIC, the first node's as its trial has it.

    On the others it is where the first measured step of any of their ranks begins. `steps` have their `node`.
    """
    first, *others = _nodes(row)
    measured = steps[steps["measured"]].groupby("node")["begin_ns"].min()
    return {first: int(row["window_begin_ns"])} | {node: int(measured[node]) for node in others if node in measured}


def _on_nodes(steps: pd.DataFrame, row: Row) -> pd.DataFrame:
    """A group has as many ranks on each node, those of a node next to each other."""
    nodes = _nodes(row)
    each = max(int(row["gpu_count"]) // len(nodes), 1)
    places = np.minimum(steps["rank"].to_numpy(dtype=int) // each, len(nodes) - 1)
    return steps.assign(node=np.array(nodes, dtype=object)[places])


def _nodes(row: Row) -> list[str]:
    """Where a row names none, its readings are all of one."""
    return list(row["nodes"]) if row["nodes"] is not None and len(row["nodes"]) else [""]
