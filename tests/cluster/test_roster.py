"""Who is in the cluster: a node whose devices another one still seems to have is tried again, and told of once."""

from types import SimpleNamespace
from typing import Any

import pytest

from joulelaw.cluster.failures import Cause
from joulelaw.cluster.nodes import members, roster
from joulelaw.cluster.nodes.inventory import Device, Node, hostname_hash
from joulelaw.cluster.nodes.members import Terms
from joulelaw.cluster.nodes.node_watch import RayNode
from joulelaw.cluster.nodes.roster import Roster
from joulelaw.cluster.power.meter import MeterOptions


class Table:
    """Ray's node table and its nodes, which all say that they have one and the same GPU; `now_s` is the time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = 1000.0
        self.nodes: dict[str, RayNode] = {}
        self.asked: list[str] = []
        self.software: dict[str, str] = {}  # of a node: its torch
        self.gpus: dict[str, str] = {}  # of a node: its GPU
        clock = SimpleNamespace(monotonic=lambda: self.now_s)
        monkeypatch.setattr(roster, "time", clock)
        monkeypatch.setattr(members, "time", clock)
        monkeypatch.setattr(members, "ray", SimpleNamespace(kill=lambda _: None))
        monkeypatch.setattr(members, "_pinned", lambda kind, node_id, *_: Kind(kind.__name__, self))
        monkeypatch.setattr(members, "Call", lambda reference, _: reference)
        monkeypatch.setattr(roster, "NodeWatch", lambda: self)
        self.roster = Roster(Terms((), {}, MeterOptions(), 1))

    def put(self, node_id: str, death: tuple[Cause, str] | None = None) -> None:
        self.nodes[node_id] = RayNode(node_id, "host", 1, 1.0, {}, death)

    def turn(self) -> list[tuple[str, str]]:
        return [(change.kind, change.node_id) for change in self.roster.advance()]


class Kind:
    """Stands for an actor class of a node, whose calls are answered at once."""

    def __init__(self, name: str, table: Table) -> None:
        self._name, self._asked, self._table = name, table.asked, table

    def remote(self, *_: Any) -> Any:
        self._asked.append(self._name)

        def inspect(node_id: str, *_: Any) -> Any:
            self._asked.append("inspect")
            gpu = Device(self._table.gpus.get(node_id, "GPU-0"), "A100", 0, "cuda", 2**36, (), 400.0, "580")
            software = (("torch", self._table.software.get(node_id, "2.13.0+cu130")),)
            return answer(Node(node_id, hostname_hash(), (gpu,), 1, 1, "", software=software))

        def status() -> Any:
            self._asked.append("status")
            return answer("status")

        told = {"inspect": inspect, "status": status, "info": lambda: answer(("life", "info"))}
        return SimpleNamespace(**{name: SimpleNamespace(remote=call) for name, call in told.items()})


def answer(value: Any) -> Any:
    return SimpleNamespace(done=True, value=lambda: value)


def test_a_node_that_comes_back_before_ray_has_found_its_loss_is_taken_up_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    table = Table(monkeypatch)
    table.put("first")
    assert table.turn() == [("node_joined", "first")]
    table.put("again")
    assert table.turn() == [("node_refused", "again")], "it offers what the first offers, for all one knows"
    table.put("first", (Cause.NODE_LOST, "its Ray died"))
    assert table.turn() == [("node_lost", "first")]
    table.now_s += 59
    assert table.turn() == []
    table.now_s += 2
    assert table.turn() == [("node_joined", "again")]


def test_a_node_that_can_never_be_used_is_tried_three_times_and_told_of_once(monkeypatch: pytest.MonkeyPatch) -> None:
    table = Table(monkeypatch)
    table.put("first")
    table.put("second")
    told = table.turn()
    for _ in range(20):
        table.now_s += 60
        told += table.turn()
    assert told == [("node_joined", "first"), ("node_refused", "second")]
    assert table.asked.count("Launcher") == 1 + 3


def test_a_nodes_inventory_is_not_kept_waiting_by_its_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    table = Table(monkeypatch)
    table.put("first")
    table.turn()
    assert table.asked.index("inspect") < table.asked.index("status"), "an actor answers in order"


def test_a_late_node_with_other_software_is_refused_by_name_even_when_all_others_have_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    table = Table(monkeypatch)
    table.gpus = {name: f"GPU-{name}" for name in ("first", "older", "build")}
    table.software = {"older": "2.12.1", "build": "2.13.0+cpu"}
    table.put("first")
    assert table.turn() == [("node_joined", "first")]
    table.roster.begin()
    table.put("first", (Cause.NODE_LOST, "its Ray died"))
    table.turn()
    table.put("older")
    table.put("build")
    refused, joined = table.roster.advance()
    assert (joined.kind, joined.node_id) == ("node_joined", "build"), "a build for another accelerator is the same"
    assert (refused.kind, refused.node_id) == ("node_refused", "older")
    assert "the nodes' software: node older has torch 2.12.1, others 2.13.0; give every node the same" in refused.text
    assert [node.node_id for node in table.roster.nodes] == ["build"]
