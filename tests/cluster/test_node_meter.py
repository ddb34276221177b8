"""Over whatever link, with whatever delays: each reading of a sampler arrives once, and nobody waits for it."""

import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ray.exceptions import ActorDiedError, ActorUnavailableError

from joulelaw import InputError
from joulelaw.cluster.power.meter import MeterOptions, Reading
from joulelaw.cluster.streams import sampler_host
from joulelaw.cluster.streams.metering import MeterInfo, new_life, readings_batch
from joulelaw.cluster.streams.meters import NodeMeters
from joulelaw.cluster.streams.node_meter import PATIENCE_S, PROMPT_S, NodeMeter
from joulelaw.cluster.streams.outbox import Outbox
from joulelaw.cluster.streams.sampler_host import SamplerHost

INFO = MeterInfo("nvml", "measured", "gpu", ("A",), {"A": ("A",)}, {})


class ToldSampler:
    """Stands for a node's sampling thread: its readings are what the test says, numbered in their times."""

    def __init__(self, first: int = 0) -> None:
        self.meter, self.dropped = INFO, 0
        self.count = first
        self.watched: list[tuple[str, list[int]]] = []
        self._kept: list[Reading] = []

    def read(self, count: int) -> None:
        self._kept += [Reading("A", self.count + place) for place in range(count)]
        self.count += count

    def drain(self) -> list[Reading]:
        kept, self._kept = self._kept, []
        return kept

    def watch(self, device_uuid: str, pids: list[int]) -> None:
        self.watched.append((device_uuid, pids))


class Link:
    """Between a NodeMeter and a real SamplerHost: calls and answers arrive when, and if, `deliver` lets them."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.told = ToldSampler()
        self.host = self._new_host()
        self.life = self.host._life
        self.calls: list[Callable[[], None]] = []
        self.answers: list[Callable[[], None]] = []
        self.meter = NodeMeter(self, self.life, INFO, lambda: self.now_s)
        self.heard: list[int] = []

    def _new_host(self) -> SamplerHost:
        host = SamplerHost((), MeterOptions(kind="none"))
        assert host._sampler is not None
        host._sampler.stop()
        host._sampler = self.told  # type: ignore[assignment]
        return host

    def restart(self) -> None:
        """Its process was killed, and another is there; what it had read is gone with it."""
        self.told = ToldSampler()
        self.host = self._new_host()

    def drain(self, *asked: Any) -> "Future[Any]":
        return self._send(lambda: self.host.drain(*asked))

    def watch(self, *asked: Any) -> "Future[Any]":
        return self._send(lambda: self.host.watch(*asked))

    def clock_ns(self) -> "Future[int]":
        return Future()

    def _send(self, call: Callable[[], Any]) -> "Future[Any]":
        answer: Future[Any] = Future()

        def arrive() -> None:
            result = call()
            self.answers.append(lambda: answer.set_result(result))

        self.calls.append(arrive)
        return answer

    def turn(self, seconds: float = 1.0) -> None:
        """One of the study's loop."""
        self.now_s += seconds
        self.meter.listen()
        self.meter.ask()
        self.take()

    def take(self) -> None:
        self.meter.listen()
        for readings in self.meter.readings():
            self.heard += readings["time_ns"].to_pylist()

    def deliver_all(self) -> None:
        while self.calls or self.answers:
            (self.calls or self.answers).pop(0)()

    def heal(self) -> None:
        """All that is lost was asked again, and is delivered."""
        for _ in range(3):
            self.turn(PATIENCE_S + 1)
            self.deliver_all()
            self.take()


def shuffle_deliveries(link: Link, chance: random.Random) -> None:
    """Each waiting call and answer arrives, stays under way, or is lost; in any order."""
    for queue in (link.calls, link.answers):
        chance.shuffle(queue)
        for _ in range(len(queue)):
            arrive = queue.pop(0)
            fate = chance.random()
            if fate < 0.5:
                arrive()
            elif fate < 0.8:
                queue.append(arrive)


@settings(deadline=None)
@given(st.integers(0, 2**32))
def test_no_reading_is_lost_and_none_comes_twice_however_bad_the_link(seed: int) -> None:
    link, chance = Link(), random.Random(seed)
    for _ in range(40):
        link.told.read(chance.randrange(4))
        link.turn(chance.choice([0.1, 1.0, PATIENCE_S + 1]))
        shuffle_deliveries(link, chance)
    link.heal()
    assert link.heard == list(range(link.told.count))
    assert (link.meter.losses, link.meter.dropped) == (0, 0)


@settings(deadline=None)
@given(st.integers(0, 2**32))
def test_what_a_killed_sampler_had_told_is_kept_and_its_successor_begins_anew(seed: int) -> None:
    link, chance = Link(), random.Random(seed)
    for life in range(3):
        if life > 0:
            link.restart()
            link.told = link.host._sampler = ToldSampler(1000 * life)  # type: ignore[assignment]
        for _ in range(10):
            link.told.read(chance.randrange(4))
            link.turn()
            shuffle_deliveries(link, chance)
    link.told.read(1)
    link.heal()
    by_life = [[number for number in link.heard if number // 1000 == life] for life in range(3)]
    assert link.heard == sorted(link.heard)
    for life, heard in enumerate(by_life):
        assert heard == list(range(1000 * life, 1000 * life + len(heard))), "from its first on, each once"
    assert link.heard[-1] == link.told.count - 1, "of the one that lives, all"
    assert link.meter.losses in (1, 2), "of one that told nothing nobody knows"


def test_a_silent_sampler_is_not_lost_and_all_it_read_comes_later() -> None:
    link = Link()
    link.turn()
    link.deliver_all()
    link.take()
    since_s = link.meter.drained_s
    for _ in range(60):
        link.told.read(1)
        link.turn()
        link.calls.clear()
    assert (link.meter.losses, link.meter.drained_s, link.heard) == (0, since_s, [])
    link.heal()
    assert link.heard == list(range(60))
    assert link.meter.drained_s > since_s + 60


def test_a_sampler_is_lost_when_ray_says_so_and_found_again_if_it_comes_back() -> None:
    link = Link()
    for error, losses in ((ActorUnavailableError("", None), 0), (ActorDiedError(), 1)):
        link.turn()
        link.calls.clear()
        link.meter._questions["drain"].answer.set_exception(error)
        link.take()
        assert link.meter.losses == losses
    link.restart()
    link.told.read(2)
    link.heal()
    assert (link.meter.losses, link.heard) == (1, [0, 1]), "the one loss, not two"
    link.meter.close()
    assert link.meter.losses == 2


def test_ranks_are_told_until_they_are_known_and_told_again_to_a_new_life() -> None:
    link = Link()
    link.meter.watch({"A": [1]})
    link.calls.clear()  # lost
    assert not link.meter.knows(["A"])
    link.now_s += PATIENCE_S + 1
    link.meter.watch({"A": [1]})
    late = link.calls.pop()
    link.now_s += PATIENCE_S + 1
    link.meter.watch({"A": [2]})
    link.deliver_all()
    late()  # the older word comes last
    link.deliver_all()
    link.take()
    assert link.meter.knows(["A"])
    assert link.told.watched[-1] == ("A", [2])
    link.restart()
    link.heal()
    assert link.told.watched == [("A", [2])]
    assert link.meter.knows(["A"])


def test_a_meter_that_cannot_be_opened_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """As when a host starts anew while its node's driver recovers."""

    def closed(*_: Any) -> Any:
        raise InputError("no driver answers")

    with monkeypatch.context() as patched:
        patched.setattr(sampler_host, "open_meter", closed)
        host = SamplerHost((), MeterOptions(kind="none"))
        for ask in (host.info, lambda: host.drain("", 0)):
            with pytest.raises(InputError, match="no driver answers"):
                ask()
        assert host.watch(1, {"A": [1]})[1] == 0, "the ranks are to be told again"
    life, info = host.info()
    assert info.kind == "none"
    assert host.drain(life, 0).life == life
    host.stop()


def test_a_sampler_that_was_lost_stays_so_whatever_fails_before_another_answers() -> None:
    link = Link()
    for failure in (ActorDiedError(), RuntimeError("no driver answers")):
        link.turn(PATIENCE_S + 1)
        link.meter._questions["drain"].answer.set_exception(failure)
        link.take()
        assert link.meter.losses == 1
    link.calls.clear()
    link.restart()
    link.heal()
    assert link.meter.losses == 1


def test_an_outbox_that_nobody_empties_drops_the_oldest_and_counts_them() -> None:
    outbox = Outbox(capacity=10)
    for begin in range(0, 24, 4):
        outbox.put(readings_batch("nvml", [Reading("A", begin + place) for place in range(4)]))
    assert outbox.waiting()["time_ns"].to_pylist() == list(range(16, 24))
    assert outbox.dropped == 16
    outbox.acknowledge(outbox.number)
    assert len(outbox.waiting()) == 0
    assert outbox.dropped == 16


class SlowSampler:
    """Answers `after_s` later, from a thread of its own, or never."""

    def __init__(self, life: str, after_s: float | None) -> None:
        self.after_s = after_s
        self.host = SamplerHost((), MeterOptions(kind="none"))
        self.host._life = life
        self.told = ToldSampler()
        self.host._sampler.stop()  # type: ignore[union-attr]
        self.host._sampler = self.told  # type: ignore[assignment]

    def drain(self, *asked: Any) -> "Future[Any]":
        return self._later(lambda: self.host.drain(*asked))

    def watch(self, *asked: Any) -> "Future[Any]":
        return self._later(lambda: self.host.watch(*asked))

    def clock_ns(self) -> "Future[int]":
        return self._later(time.monotonic_ns)

    def _later(self, call: Callable[[], Any]) -> "Future[Any]":
        answer: Future[Any] = Future()
        if self.after_s is not None:
            threading.Timer(self.after_s, lambda: answer.set_result(call())).start()
        return answer


def test_slow_and_silent_nodes_hold_up_nobody() -> None:
    """Forty turns of ten nodes, of which one is cut off and one answers after 0.3 s, take as long as of quick ones."""
    meters, samplers = NodeMeters(), {}
    for place in range(10):
        after_s = {0: None, 1: 0.3}.get(place, 0.0)
        node_id, life = f"node{place}", new_life()
        samplers[node_id] = SlowSampler(life, after_s)
        meters.add_sampler(node_id, samplers[node_id], life, INFO)
    heard: dict[str, list[int]] = {node_id: [] for node_id in samplers}
    in_calls_s = 0.0
    for _ in range(40):
        for sampler in samplers.values():
            sampler.told.read(2)
        begin_s = time.monotonic()
        drained = meters.drain()
        meters.watch("node0", {"A": [1]})
        in_calls_s += time.monotonic() - begin_s
        for node_id, readings in drained.items():
            heard[node_id] += readings["time_ns"].to_pylist()
        time.sleep(0.02)
        assert meters._meters["node0"].prompt() == [], "it was waited for once, for a moment"
    assert in_calls_s < 40 * 3 * PROMPT_S, "on a machine that is busy; mostly it is a tenth of that"
    assert heard["node0"] == []
    assert all(mine == list(range(len(mine))) for mine in heard.values())
    assert all(len(heard[f"node{place}"]) > 60 for place in range(2, 10))
    assert len(heard["node1"]) > 4
    assert meters.losses == dict.fromkeys(samplers, 0)
    now_s = time.monotonic()
    assert meters.drained_s["node0"] < now_s - 1e6
    assert meters.drained_s["node5"] > now_s - 5
    assert set(samplers) - {"node0", "node1"} <= set(meters.clock_offsets()) <= set(samplers) - {"node0"}
    meters.remove("node0")
    assert (meters.losses["node0"], meters.drained_s["node0"]) == (1, float("inf"))


def test_what_is_known_of_a_node_that_is_gone_stays_known() -> None:
    meters = NodeMeters()
    meters.add_sampler("node", SlowSampler("life", None), "life", INFO)
    meters.remove("node")
    assert meters.drain() == {}
    assert meters.infos == {"node": INFO}
