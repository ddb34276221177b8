"""The scheduler's state and decisions: equal to slow plain rules, never over capacity, nothing waits for ever."""

from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from joulelaw.cluster.scheduling.board import Board
from joulelaw.cluster.scheduling.scheduler import Assignment, WaitingTrial
from tests.cluster.slow_scheduler import Running, SlowScheduler, share


def trial(name: str, count: int, expected_s: float, wave: int = 0, model: str = "A", **more: object) -> WaitingTrial:
    return replace(WaitingTrial(name, model, count, expected_s, wave=wave), **more)


def board(free: dict[str, int], *trials: WaitingTrial) -> Board:
    made = Board()
    made.see({"A": free})
    for each in trials:
        made.add(each)
    return made


def started(on: Board, now_s: float = 0.0) -> list[str]:
    """Starts all that the board says, and returns it in order."""
    names = []
    while found := on.next(now_s):
        on.start(found, now_s)
        names.append(found.trial_id)
    return names


def running(on: Board, node: str, count: int, expected_s: float, now_s: float = 0.0) -> str:
    """Something that runs there since now."""
    name = f"on {node} {count}"
    on.add(trial(name, count, expected_s))
    on.start(Assignment(name, (node,)), now_s)
    return name


def test_big_groups_go_first_and_long_trials_before_short() -> None:
    waiting = [trial(f"single {i:02d}", 1, 10 + i % 8) for i in range(64)] + [
        trial("pair", 2, 10),
        trial("longer pair", 2, 11),
    ]
    assert started(board({"n": 3}, *waiting)) == ["longer pair", "single 07"]


def test_a_trial_that_decides_the_end_goes_before_bigger_ones() -> None:
    assert started(board({"n": 4}, trial("pair", 2, 1), trial("endless", 1, 100)))[0] == "endless"


def test_a_trial_comes_to_decide_the_end_while_nothing_happens() -> None:
    """(3 x 100 + 8 x 4 x 80 + 120) / 4 = 745 s are left, 3 / 4 s less each second: 720 s, six times 120, at 33 s."""
    on = board({"n": 4})
    running(on, "n", 3, 100)
    for each in (*(trial(f"all {i}", 4, 80) for i in range(8)), trial("long", 1, 120)):
        on.add(each)
    assert [on.next(now_s) for now_s in (0.0, 33.0)] == [None, None], "it would still run at 100 s"
    assert on.next(34.0) == Assignment("long", ("n",))


def test_an_earlier_wave_goes_before_a_bigger_later_one() -> None:
    later = [trial(f"later {i}", 2, 9, wave=1) for i in range(9)]
    assert started(board({"n": 2}, trial("now", 1, 1), *later)) == ["now"]


def test_small_trials_do_not_starve_a_big_one() -> None:
    """One of two devices is free and the pair, of 10 s, waits for the other: only what ends 1 s after that slips in."""
    for single_s, slips_in in ((6.5, False), (6, True)):
        on = board({"n": 2})
        running(on, "n", 1, 5)
        on.add(trial("pair", 2, 10))
        on.add(trial("single", 1, single_s))
        assert started(on) == (["single"] if slips_in else [])


def test_the_big_one_is_kept_waiting_once_and_not_again_and_again() -> None:
    """Counted from when its turn came: 5 s and a tenth of its own 10."""
    on = board({"n": 3}, trial("three", 3, 10))
    running(on, "n", 1, 5)
    on.add(trial("first", 1, 6))
    assert started(on) == ["first"]
    on.add(trial("second", 1, 5.9))
    assert started(on, 0.5) == [], "until 6.4 s"
    on.add(trial("third", 1, 5.4))
    assert started(on, 0.5) == ["third"]


def test_a_moment_later_does_not_leave_a_device_idle() -> None:
    """As in any real study, where starting a trial takes some milliseconds."""
    on = board({"n": 2}, trial("pair", 2, 4), *(trial(f"single {i}", 1, 4) for i in range(3)))
    on.start(Assignment("single 0", ("n",)), 0.0)
    assert on.next(0.005) == Assignment("single 1", ("n",))


def test_devices_that_the_waiting_trial_will_not_need_are_used() -> None:
    on = board({"n": 5}, trial("four", 4, 10), trial("seven", 1, 7), trial("eight", 1, 8))
    running(on, "n", 2, 5)
    assert started(on) == ["eight"], "5 are free then, 4 needed: one to spare"


def test_a_trial_that_can_never_fit_holds_nobody_up() -> None:
    assert started(board({"n": 2}, trial("huge", 16, 9), trial("one", 1, 1))) == ["one"]


def test_models_do_not_wait_for_each_other() -> None:
    on = Board()
    on.see({"A": {"n": 0}, "B": {"n": 1}})
    on.add(trial("a", 1, 1))
    on.add(trial("b", 1, 1, model="B"))
    assert started(on) == ["b"]


def test_a_baseline_goes_before_whatever_is_compared_with_it() -> None:
    pair = trial("pair", 2, 10, case="c")
    base = trial("base", 1, 10, case="c", baseline=True)
    assert started(board({"n": 2}, pair, base)) == ["base"], "though the pair would fit, and is bigger"
    assert started(board({"n": 3}, pair, base)) == ["base", "pair"]
    urgent = trial("endless", 2, 1000, case="c")
    assert started(board({"n": 3}, urgent, base)) == ["base", "endless"]
    late = replace(base, trial_id="again", wave=1)
    assert started(board({"n": 2}, pair, late)) == ["pair"], "a later wave's baseline does not hold it up"


def test_repeats_and_retries_go_to_other_nodes_first() -> None:
    on = board({"a": 2, "b": 4}, trial("first", 1, 5, configuration="x"))
    assert on.next(0.0) == Assignment("first", ("a",)), "the node with the least left over"
    started(on)
    on.add(trial("second", 1, 5, configuration="x"))
    assert on.next(0.0) == Assignment("second", ("b",))
    assert on.end("first").trial_id == "first"
    on.remember("y", ["a"])
    on.add(trial("other", 2, 50, configuration="y"))
    assert on.next(0.0) == Assignment("other", ("b",))


def test_a_trial_that_wants_a_node_for_itself_waits_for_an_idle_one_and_keeps_it() -> None:
    on = board({"a": 4}, trial("small", 1, 10))
    started(on)
    on.add(trial("alone", 2, 90, alone_on_node=True))
    on.add(trial("long", 1, 20))
    on.add(trial("short", 1, 9))
    assert started(on, 0.0) == ["short"], "it ends before the node is idle; the long one much later"
    on.end("small")
    on.end("short")
    assert started(on, 10.0) == ["alone"], "two devices are free beside it, and stay so"
    on.end("alone")
    assert started(on, 60.0) == ["long"]


def test_where_a_meter_cannot_tell_devices_apart_every_trial_is_alone() -> None:
    on = board({"a": 4, "b": 4}, trial("one", 1, 5), trial("two", 1, 5), trial("three", 1, 5))
    on.see({"A": {"a": 4, "b": 4}}, one_trial_nodes={"a"})
    names = started(on)
    assert sorted(names) == ["one", "three", "two"], "b takes two of them"
    on.add(trial("last", 4, 9))
    assert on.next(0.0) is None


def test_groups_across_nodes_have_equal_shares() -> None:
    on = board({"a": 8, "b": 2, "c": 4}, trial("wide", 8, 5, node_count=2))
    assert on.next(0.0) == Assignment("wide", ("c", "a"))
    assert board({"a": 8, "b": 2}, trial("wide", 8, 5, node_count=2)).next(0.0) is None


def test_nodes_that_come_and_go() -> None:
    on = board({"a": 2}, trial("one", 2, 5), trial("two", 2, 5))
    assert started(on) == ["one"]
    on.see({"A": {"a": 0, "b": 2}})
    assert started(on) == ["two"]
    on.see({"A": {"a": 0}})  # b is lost with the trial on it
    on.add(on.end("two"))
    assert started(on) == []
    on.end("one")
    assert started(on) == ["two"]


def test_what_waits_is_waiting_once() -> None:
    on = board({"a": 1}, trial("one", 1, 5))
    with pytest.raises(ValueError, match="waits already"):
        on.add(trial("one", 1, 5))
    assert set(on.waiting) == {"one"}
    on.withdraw("one")
    assert not on.waiting
    with pytest.raises(KeyError):
        on.start(Assignment("one", ("a",)), 0.0)


# Of what chance does to a small cluster: two models, one of whose nodes has devices of both.
NODES = {"a": {"A": 4}, "b": {"A": 2, "B": 2}, "c": {"B": 4}, "d": {"A": 4}}

SHAPES = [(1, 1), (1, 1), (2, 1), (3, 1), (4, 1), (4, 2), (8, 2), (6, 1)]


def drawn(chance: Random, number: int, alone: float) -> WaitingTrial:
    model, (count, node_count) = chance.choice("AB"), chance.choice(SHAPES)
    case = chance.choice(["", "c", "d"])
    baseline = bool(case) and chance.random() < 0.2
    return WaitingTrial(
        trial_id=f"t{number:03d}",
        model=model,
        count=1 if baseline else count,
        expected_s=chance.choice([1.0, 2.0, 3.0, 5.0, 8.0, 40.0]),
        node_count=1 if baseline else node_count,
        wave=chance.choice([0, 0, 0, 1, 2]),
        baseline=baseline,
        configuration=chance.choice(["", "x", "y", "z"]),
        case=case and case + model,
        alone_on_node=chance.random() < alone,
    )


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    chance=some.randoms(use_true_random=True),
    alone=some.sampled_from([0.0, 0.2, 0.5]),
    one_trial=some.sets(some.sampled_from(sorted(NODES)), max_size=1),
    eager=some.booleans(),
)
def test_decisions_are_those_of_the_slow_rules_and_never_over_capacity(
    chance: Random, alone: float, one_trial: set[str], eager: bool
) -> None:
    """Trials come and end, nodes are lost and return, time passes, and what is decided is not always carried out."""
    fast, slow, now_s = Board(), SlowScheduler({node: dict(has) for node, has in NODES.items()}, one_trial), 0.0
    fast.see(_by_model(slow), one_trial)
    for number in range(120):
        match chance.choice(["add", "add", "pass", "end", "node" if chance.random() < 0.2 else "end"]):
            case "add":
                one = drawn(chance, number, alone)
                fast.add(one)
                slow.waiting.append(one)
            case "pass":
                now_s += chance.choice([0.0, 0.5, 1.0, 2.0, 7.0])
            case "end" if slow.running:
                _end(fast, slow, chance.choice(slow.running))
            case "node":
                _come_or_go(fast, slow, chance.choice(sorted(NODES)), one_trial)
        found = fast.next(now_s)
        assert found == slow.next(now_s)
        assert found == fast.next(now_s), "asking changes nothing"
        if eager or chance.random() < 0.5:
            _start_all(fast, slow, now_s)


def _start_all(fast: Board, slow: SlowScheduler, now_s: float) -> None:
    while True:
        found = fast.next(now_s)
        assert found == slow.next(now_s)
        if found is None:
            return
        one = fast.start(found, now_s)
        slow.waiting.remove(one)
        assert len(set(found.nodes)) == one.node_count
        for node in found.nodes:
            there = slow.there(node)
            assert not any(r.trial.alone_on_node or node in slow.one_trial for r in there), "it has the node"
            assert not (there and one.alone_on_node), "it wants the node"
            slow.free[node][one.model] -= share(one)
            assert slow.free[node][one.model] >= 0, "over capacity"
        slow.running.append(Running(one, found.nodes, now_s))
        if one.configuration:
            slow.used.setdefault(one.configuration, set()).update(found.nodes)


def _end(fast: Board, slow: SlowScheduler, run: Running) -> None:
    assert fast.end(run.trial.trial_id) == run.trial
    slow.running.remove(run)
    for node in run.nodes:
        if node in slow.free:
            slow.free[node][run.trial.model] += share(run.trial)


def _come_or_go(fast: Board, slow: SlowScheduler, node: str, one_trial: set[str]) -> None:
    """A node is lost with all that ran there, or is there again."""
    if node in slow.free:
        lost = slow.there(node)
        del slow.free[node]
        fast.see(_by_model(slow), one_trial)
        for run in lost:
            _end(fast, slow, run)
    else:
        slow.free[node] = dict(NODES[node])
        fast.see(_by_model(slow), one_trial)


def _by_model(slow: SlowScheduler) -> dict[str, dict[str, int]]:
    return {model: {node: devices[model] for node, devices in slow.free.items() if model in devices} for model in "AB"}
