"""The driver's link to a node's ranks over a network that loses, delays, repeats and reorders whatever it carries."""

from collections.abc import Callable
from concurrent.futures import Future
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest
from ray.exceptions import ActorDiedError, ActorUnavailableError

from joulelaw.cluster.failures import Cause
from joulelaw.cluster.nodes.inventory import Device
from joulelaw.cluster.ranks import node_ranks
from joulelaw.cluster.ranks.node_link import NodeLink
from joulelaw.cluster.ranks.node_ranks import NodeRanks, Order
from joulelaw.cluster.ranks.rank import RankSpec
from joulelaw.cluster.ranks.wire import Message

DEVICE = Device("CPU-0", "CPU", 0, "cpu", 1 << 30, (), None, "")


class Rank:
    """Stands for a RankProcess: repeats what it hears, each time with how often it has heard anything."""

    def __init__(self, on_news: Callable[[], None]) -> None:
        self._on_news, self._events, self.heard = on_news, list[Message](), list[int]()

    def launch(self, address: str, spec: RankSpec) -> bool:
        self._tell({"kind": "ready"})
        return True

    def send(self, message: Message) -> None:
        self.heard.append(message["word"])
        self._tell({"kind": "heard", "words": list(self.heard)})

    def kill(self) -> None:
        self._tell({"kind": "exit", "status": -9})

    def poll(self) -> list[Message]:
        events, self._events = self._events, []
        return events

    def _tell(self, event: Message) -> None:
        self._events.append(event)
        self._on_news()


class Network:
    """Between a NodeLink and a node's NodeRanks. While it is `bad` a call may come late, twice, or never, and its
    answer may be lost: with an error, or without a word."""

    def __init__(self, node: NodeRanks, random: Random) -> None:
        self.node, self.bad, self._random = node, True, random
        self.launcher = SimpleNamespace(listen=self._method("listen"), obey=self._method("obey"))
        self._calls: list[tuple[str, tuple[Any, ...], Future[Any]]] = []

    def _method(self, name: str) -> SimpleNamespace:
        def remote(*arguments: Any) -> SimpleNamespace:
            answer: Future[Any] = Future()
            self._calls.append((name, arguments, answer))
            return SimpleNamespace(future=lambda: answer)

        return SimpleNamespace(remote=remote)

    def carry(self) -> None:
        """Some of the calls that are under way."""
        calls, self._calls = self._calls, []
        self._random.shuffle(calls)
        for name, arguments, answer in calls:
            luck = self._random.random() if self.bad else 0.9
            if luck < 0.1:
                continue  # lost, without a word
            if luck < 0.3:
                self._calls.append((name, arguments, answer))  # late
                continue
            told = [self._done(name, arguments) for _ in range(2 if luck < 0.5 else 1)]
            if luck < 0.6:
                answer.set_exception(ActorUnavailableError("its answer was lost", b"0" * 16))
            elif luck >= 0.7 and not answer.done():
                answer.set_result(told[0])

    def _done(self, name: str, arguments: tuple[Any, ...]) -> Any:
        if name == "listen":
            return self.node.listen(arguments[0], arguments[1], 0.0)
        return self.node.obey(*arguments)


class Stage:
    """A link over a network to a node, and the time."""

    def __init__(self, seed: int) -> None:
        self.now_s, self.random = 0.0, Random(seed)
        self.network = Network(NodeRanks(lambda: "/nowhere/fork.sock"), self.random)
        self.link = NodeLink(self.network.launcher, lambda: None, clock=lambda: self.now_s)
        self.inboxes: dict[int, list[Message]] = {}

    def launch(self) -> int:
        spec = RankSpec("a:b", {}, 0, 1, 0, 1, DEVICE, {}, "/nowhere/log")
        inbox: list[Message] = []
        number = self.link.launch(spec, 0, inbox)
        self.inboxes[number] = inbox
        return number

    def turn(self, wait_s: float = 0.5) -> None:
        self.link.advance()
        self.network.carry()
        self.now_s += wait_s

    def turn_until(self, condition: Callable[[], bool]) -> None:
        begun_s = self.now_s
        while not condition():
            assert self.now_s < begun_s + 120, "it waits for ever"
            self.turn()


@pytest.fixture(autouse=True)
def no_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node_ranks, "RankProcess", Rank)
    monkeypatch.setattr(node_ranks.rank_log, "placed", lambda spec, *_: (spec, None))


def test_whatever_a_bad_network_does_every_rank_is_told_and_heard_once_and_in_order() -> None:
    for seed in range(30):
        check_a_bad_network(seed)


def check_a_bad_network(seed: int) -> None:
    stage = Stage(seed)
    said: dict[int, list[int]] = {}
    for word in range(200):
        if len(said) < 6 and stage.random.random() < 0.05:
            said[stage.launch()] = []
        elif said:
            number = stage.random.choice(sorted(said))
            said[number].append(word)
            stage.link.order(Order(number, message={"word": word}))
        stage.turn()
    stage.network.bad = False
    for number in said:
        stage.link.order(Order(number))
    stage.turn_until(lambda: all(inbox and inbox[-1]["kind"] == "exit" for inbox in stage.inboxes.values()))
    for number, words in said.items():
        heard = [{"kind": "heard", "words": words[: n + 1]} for n in range(len(words))]
        assert stage.inboxes[number] == [{"kind": "ready"}, *heard, {"kind": "exit", "status": -9}], f"seed {seed}"


def test_over_a_good_network_nothing_is_said_twice() -> None:
    stage = Stage(0)
    stage.network.bad = False
    told: list[int] = []
    obey = stage.network.launcher.obey.remote
    stage.network.launcher.obey.remote = lambda *call: (
        told.extend(range(call[1], call[1] + len(call[2]))),
        obey(*call),
    )
    number = stage.launch()
    for word in range(100):
        stage.turn()
        stage.link.order(Order(number, message={"word": word}))
    stage.turn()
    assert told == list(range(101))


def test_a_question_whose_answer_never_comes_is_asked_again() -> None:
    stage = Stage(0)
    stage.network.bad = False
    number = stage.launch()
    stage.link.advance()
    stage.network._calls.clear()
    stage.turn_until(lambda: stage.inboxes[number] == [{"kind": "ready"}])


def test_orders_that_never_came_are_given_again() -> None:
    stage = Stage(0)
    stage.network.bad = False
    first = stage.launch()
    stage.turn_until(lambda: bool(stage.inboxes[first]))
    second = stage.launch()
    stage.link.flush()
    stage.network._calls = [call for call in stage.network._calls if call[0] != "obey"]
    stage.turn_until(lambda: stage.inboxes[second] == [{"kind": "ready"}])


def test_a_launcher_that_starts_anew_is_told_no_old_orders() -> None:
    stage = Stage(0)
    stage.network.bad = False
    old = stage.launch()
    stage.turn_until(lambda: bool(stage.inboxes[old]))
    stage.link.order(Order(old, message={"word": 1}))
    stage.network.node = NodeRanks(lambda: "/nowhere/fork.sock")
    stage.network.node.life = "another"  # they were born in the same process
    stage.turn_until(lambda: stage.inboxes[old][-1]["kind"] == "exit")
    assert stage.inboxes[old][-1]["lost"] == "was lost with its fork server"
    new = stage.launch()
    stage.turn_until(lambda: stage.inboxes[new] == [{"kind": "ready"}])


def test_what_a_launcher_was_never_told_is_told_the_one_that_takes_its_place() -> None:
    """It ended while the node had nothing to do, which nobody saw."""
    stage = Stage(0)
    stage.network.bad = False
    first = stage.launch()
    stage.turn_until(lambda: bool(stage.inboxes[first]))
    stage.link.order(Order(first))
    stage.turn_until(lambda: stage.inboxes[first][-1]["kind"] == "exit")
    stage.network.node = NodeRanks(lambda: "/nowhere/fork.sock")
    stage.network.node.life = "another"
    next_one = stage.launch()
    stage.link.order(Order(next_one, message={"word": 1}))
    heard = [{"kind": "ready"}, {"kind": "heard", "words": [1]}]
    stage.turn_until(lambda: stage.inboxes[next_one] == heard)


def test_a_launcher_that_never_starts_again_is_a_problem_until_it_answers() -> None:
    stage = Stage(0)
    stage.network.bad = False
    number = stage.launch()
    listen = stage.network.launcher.listen
    stage.network.launcher.listen = SimpleNamespace(remote=lambda *_: refusal())
    stage.turn_until(lambda: bool(stage.inboxes[number]))
    assert stage.inboxes[number][-1]["cause"] == Cause.NODE_LOST
    assert stage.now_s >= 8, "its node may have ended, of which others tell more in a moment"
    assert "died" in stage.link.problem
    stage.network.launcher.listen = listen
    again = stage.launch()
    stage.turn_until(lambda: stage.inboxes[again] == [{"kind": "ready"}])
    assert stage.link.problem == ""


def refusal() -> SimpleNamespace:
    answer: Future[Any] = Future()
    answer.set_exception(ActorDiedError())
    return SimpleNamespace(future=lambda: answer)
