"""A study's start tells what differs between its nodes and does no harm: drivers, and a clock that is off."""

from types import SimpleNamespace
from typing import Any

import pytest

from joulelaw.bench.study import study as sweep
from joulelaw.cluster.nodes.inventory import Device, Node
from joulelaw.cluster.nodes.versions import own_epoch_ns
from joulelaw.cluster.streams.metering import HERE


def node(name: str, driver: str, ahead_s: int) -> Node:
    gpu = Device(f"GPU-{name}", "NVIDIA A100", 0, "cuda", 2**36, (), 400.0, driver)
    return Node(name * 6, "0a", (gpu,), 2**40, 64, "CPU", epoch_ns=own_epoch_ns() + ahead_s * 10**9)


def test_other_drivers_and_clocks_are_told_by_node(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = (node("a", "580.1", 0), node("b", "570.86", 3600))
    machines: Any = SimpleNamespace(
        nodes=nodes,
        meters={},
        wait_ready=lambda: {},
        clock_offsets=lambda: {each.node_id: HERE for each in nodes},
    )
    said: list[str] = []
    monkeypatch.setattr(sweep, "say", said.append)
    sweep._check_nodes(machines)
    drivers, clock = said
    assert "580.1 on aaaaaa" in drivers
    assert clock.startswith("the clock of node bbbbbb is 3600.0 s ahead")
