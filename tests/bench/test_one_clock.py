"""A trial on two nodes, whose clocks began at other times, is told on one axis."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from joulelaw.bench.energy.readings import DeviceReadings
from joulelaw.bench.report import one_clock
from joulelaw.bench.report.one_clock import timed_readings, timed_steps

S = 1_000_000_000
# What each node's CLOCK_MONOTONIC says when the window begins.
BEGINS = {"near": 5 * S, "far": 90_000 * S}
ROW = {"trial_id": "a-r0", "gpu_count": 4, "nodes": ["near", "far"], "window_begin_ns": BEGINS["near"]}


def step(rank: int, number: int) -> dict[str, Any]:
    """Each a second long; the first is of the warm-up."""
    begin_ns = BEGINS["near" if rank < 2 else "far"] + (number - 1) * S
    return {"rank": rank, "step": number, "measured": number > 0, "begin_ns": begin_ns, "end_ns": begin_ns + S}


def read(node: str) -> DeviceReadings:
    numbers = np.array([100.0, 100.0])
    return DeviceReadings(f"{node}-gpu", BEGINS[node] + np.array([0, S]), numbers, numbers, np.zeros(2, bool))


@pytest.fixture
def study(monkeypatch: pytest.MonkeyPatch) -> Any:
    steps = pd.DataFrame([step(rank, number) for rank in range(4) for number in range(3)])
    monkeypatch.setattr(one_clock, "read_steps", lambda folder, trial_id: steps)
    monkeypatch.setattr(one_clock, "readings_of", lambda folder, trial_id, node: [read(node or "near")])
    return SimpleNamespace(folder=Path())


def test_steps_of_every_node_end_at_the_same_times(study: Any) -> None:
    found = timed_steps(study, ROW)
    assert found.groupby("rank")["end_s"].agg(list).tolist() == [pytest.approx([0, 1, 2])] * 4
    assert found["s"].tolist() == pytest.approx([1.0] * 12)


def test_readings_of_every_node_are_there_with_their_own_beginning(study: Any) -> None:
    found = timed_readings(study, ROW, timed_steps(study, ROW))
    assert [(each.domain, begin_ns) for each, begin_ns in found] == [
        ("near-gpu", BEGINS["near"]),
        ("far-gpu", BEGINS["far"]),
    ]
    assert all((each.time_ns - begin_ns).tolist() == [0, S] for each, begin_ns in found)


def test_a_row_that_names_no_node_is_of_one(study: Any) -> None:
    row = ROW | {"nodes": None, "gpu_count": 2}
    assert timed_steps(study, row)["end_s"].tolist()[:3] == pytest.approx([0, 1, 2])
    ((readings, begin_ns),) = timed_readings(study, row, timed_steps(study, row))
    assert (readings.domain, begin_ns) == ("near-gpu", BEGINS["near"])
