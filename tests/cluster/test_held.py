"""Devices asked of Ray: none is lost between two looks, and an actor that ends before it tells is asked for again."""

from types import SimpleNamespace
from typing import Any

import pytest

from joulelaw.cluster.failures import ClusterError, NodeLostError
from joulelaw.cluster.nodes import held
from joulelaw.cluster.nodes.held import NodeDevices
from joulelaw.cluster.nodes.inventory import Device, Node
from joulelaw.cluster.ranks.remote import Place

NODE = Node(
    "ab" * 28, "0a", tuple(Device(f"GPU-{i}", "A100", i, "cuda", 2**36, (), 400.0, "") for i in range(2)), 1, 1, ""
)


class Answer:
    """Stands for a Call. `looks` are what `done` tells, one look after another; the last holds from then on."""

    def __init__(self, value: Place | ClusterError, *looks: bool) -> None:
        self._value, self._looks = value, list(looks) or [True]

    @property
    def done(self) -> bool:
        return self._looks.pop(0) if len(self._looks) > 1 else self._looks[0]

    def value(self) -> Place:
        if isinstance(self._value, ClusterError):
            raise self._value
        return self._value


class Stage:
    """Answers what Ray's actors would; `now_s` is the time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = 1000.0
        self.answers: list[Answer] = []
        actor: Any = SimpleNamespace(place=SimpleNamespace(remote=lambda: None))
        kind = SimpleNamespace(options=lambda **_: SimpleNamespace(remote=lambda: actor))
        rank: Any = SimpleNamespace(look=lambda: None, is_lost=False)
        monkeypatch.setattr(held, "RemoteRank", lambda *_: rank)
        monkeypatch.setattr(held, "ray", SimpleNamespace(remote=lambda _: kind, kill=lambda _: None))
        monkeypatch.setattr(held, "Call", lambda *_: self.answers.pop(0))
        monkeypatch.setattr(held, "time", SimpleNamespace(monotonic=lambda: self.now_s))
        self.devices = NodeDevices(NODE, None, 2.0, {}, lambda: None)

    def ask(self, *answers: Answer) -> None:
        self.answers += answers
        self.devices.ask_for_missing()


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Stage:
    return Stage(monkeypatch)


def place(gpu_id: str) -> Place:
    return Place("10.0.0.1", "eth0", gpu_id)


def test_an_answer_that_comes_while_others_are_looked_at_is_not_lost(stage: Stage) -> None:
    stage.ask(Answer(place("0"), True), Answer(place("1"), False, True))
    assert stage.devices.take_grants() == 1
    assert stage.devices.asked == 1
    assert stage.devices.take_grants() == 1
    assert set(stage.devices.held) == {"GPU-0", "GPU-1"}


def test_an_actor_that_ends_before_it_tells_is_asked_for_again(stage: Stage) -> None:
    stage.ask(Answer(place("0")), Answer(NodeLostError("the actor died")))
    assert stage.devices.take_grants() == 1
    assert stage.devices.asked == 1, "it still may come"
    stage.ask()  # not at once: what kills actors would kill this one too
    stage.now_s += 3
    stage.ask(Answer(place("1")))
    assert stage.devices.take_grants() == 1
    assert stage.devices.asked == 0


def test_a_node_on_which_no_actor_lives_is_given_up(stage: Stage) -> None:
    def go_on() -> None:
        for _ in range(100):
            stage.ask(Answer(NodeLostError("died again")), Answer(NodeLostError("died again")))
            stage.devices.take_grants()
            stage.now_s += 3

    with pytest.raises(NodeLostError, match="again"):
        go_on()
    assert stage.now_s > 1100, "Ray has had the time to say whether it is the node"


def test_a_node_where_nothing_can_launch_a_rank_any_more_is_of_no_use(stage: Stage) -> None:
    stage.ask(Answer(place("0")), Answer(place("1")))
    assert stage.devices.take_grants() == 2
    stage.devices._link._problem = "it died"
    with pytest.raises(ClusterError, match=r"node ababab: its launcher has ended for good \(it died\)"):
        stage.devices.take_grants()
