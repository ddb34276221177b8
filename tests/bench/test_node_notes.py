"""A study tells what differs between its nodes and does no harm: drivers, and a clock that is off; of late ones too."""

import json
from pathlib import Path
from typing import Any

import pytest

from joulelaw.bench.dataset.dataset import Dataset, read_events
from joulelaw.bench.study.environment import describe_environment
from joulelaw.bench.study.node_news import NodeNews
from joulelaw.cluster.nodes.changes import NodeChange
from joulelaw.cluster.nodes.inventory import Device, Node
from joulelaw.cluster.nodes.versions import own_epoch_ns
from joulelaw.cluster.streams.metering import HERE, MeterInfo

METER = MeterInfo("none", "none", "", (), {}, {})


def node(name: str, driver: str = "580.1", ahead_s: int = 0) -> Node:
    gpu = Device(f"GPU-{name}", "NVIDIA A100", 0, "cuda", 2**36, (), 400.0, driver)
    return Node(name * 6, "0a", (gpu,), 2**40, 64, "CPU", epoch_ns=own_epoch_ns() + ahead_s * 10**9)


class Growing:
    """A fleet whose nodes tell all at once that they are there."""

    def __init__(self, *nodes: Node) -> None:
        self.nodes = nodes
        self.news = [NodeChange("node_joined", each.node_id, f"node {each.node_id} joined") for each in nodes]
        self.meters = {each.node_id: METER for each in nodes}

    def refresh(self) -> list[NodeChange]:
        news, self.news = self.news, []
        return news

    def clock_offsets(self) -> dict[str, Any]:
        return {each.node_id: HERE for each in self.nodes}

    def add(self, new: Node) -> None:
        self.nodes, self.meters = (*self.nodes, new), {**self.meters, new.node_id: METER}
        self.news = [NodeChange("node_joined", new.node_id, f"node {new.node_id} joined")]


def begun(fleet: Any, folder: Path) -> tuple[Dataset, NodeNews, list[str]]:
    said: list[str] = []
    dataset = Dataset.create(folder, sweep="", plan={}, environment=describe_environment(fleet.nodes))
    return dataset, NodeNews(fleet, dataset, said.append), said


def test_other_drivers_and_clocks_are_told_by_node_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "somewhere:6379")
    dataset, news, said = begun(Growing(node("a"), node("b", "570.86", 3600)), tmp_path / "out")
    with dataset:
        assert len(news.changes()) == 2
        assert said == [], "who was there is no news"
        for _ in range(2):
            news.tell_of({"aaaaaa", "bbbbbb"})
    blind_a, blind_b, drivers, clock = said
    assert blind_a.startswith("node aaaaaa: ")
    assert blind_b.startswith("node bbbbbb: ")
    assert "580.1 on aaaaaa" in drivers
    assert clock.startswith("the clock of node bbbbbb is 3600.0 s ahead")


def test_a_node_that_joins_late_is_told_of_as_the_first_ones_and_kept_in_the_environment(tmp_path: Path) -> None:
    """The file is whole after any crash: it is read back while the study runs, and by the next run."""
    path, fleet = tmp_path / "out" / "environment.json", Growing(node("a"))
    at_start = describe_environment(fleet.nodes)
    dataset, news, said = begun(fleet, tmp_path / "out")
    with dataset:
        news.changes()
        news.tell_of({"aaaaaa"})
        assert [each["node_id"] for each in json.loads(path.read_text())["nodes"]] == ["aaaaaa"]
        fleet.add(node("b", "570.86", -90))
        news.changes()
        first, late = json.loads(path.read_text())["nodes"]
        assert (first["node_id"], "joined_at" in first) == ("aaaaaa", False)
        assert (late["node_id"], late["joined_at"][-6:], late["devices"][0]["driver"]) == ("bbbbbb", "+00:00", "570.86")
        news.tell_of({"aaaaaa", "bbbbbb"})
    joined, drivers, clock = said
    assert joined == "node bbbbbb joined"
    assert "570.86 on bbbbbb" in drivers
    assert "bbbbbb is 90.0 s behind" in clock
    assert list(read_events(tmp_path / "out")["kind"]) == ["node_joined", "node_joined"]
    with Dataset.open(tmp_path / "out") as dataset:
        dataset.note_environment(at_start)
        dataset.add_nodes([{"node_id": "bbbbbb"}, {"node_id": "cccccc"}])
    names = [each["node_id"] for each in json.loads(path.read_text())["nodes"]]
    assert names == ["aaaaaa", "bbbbbb", "cccccc"], "the same run environment goes on, and nobody is there twice"
    assert [each.name for each in path.parent.glob("environment*")] == ["environment.json"]
