"""The scheduler: nothing waits for ever, devices stay busy, and impossible groups are told at once."""

import heapq
import random

import pytest

from joulelaw.cluster.scheduler import (
    RunningTrial,
    WaitingTrial,
    choose_nodes,
    next_assignment,
)


def trial(name: str, count: int, expected_s: float, wave: int = 0, model: str = "A") -> WaitingTrial:
    return WaitingTrial(name, model, count, expected_s, wave=wave)


def chosen(waiting: list[WaitingTrial], free: dict[str, int], running: list[RunningTrial] | None = None) -> str | None:
    assignment = next_assignment(waiting, {"A": free}, running or [])
    return assignment.trial_id if assignment else None


def test_big_groups_go_first_and_long_trials_before_short() -> None:
    waiting = [trial("short", 1, 1), trial("long", 1, 2), trial("pair", 2, 1), trial("more", 2, 1)]
    assert chosen(waiting, {"n": 2}) == "more"
    assert chosen(waiting, {"n": 1}) == "long"


def test_a_trial_that_decides_the_end_goes_before_bigger_ones() -> None:
    assert chosen([trial("pair", 2, 1), trial("endless", 1, 100)], {"n": 4}) == "endless"


def test_an_earlier_wave_goes_before_a_bigger_later_one() -> None:
    assert chosen([trial("later", 2, 9, wave=1), trial("now", 1, 1)], {"n": 2}) == "now"


def test_small_trials_do_not_starve_a_big_one() -> None:
    """One of two devices is free and the pair waits for the other: only what ends before that may slip in."""
    running = [RunningTrial("A", 1, ("n",), remaining_s=5)]
    pair = trial("pair", 2, 10)
    assert chosen([pair, trial("too long", 1, 6)], {"n": 1}, running) is None
    assert chosen([pair, trial("fits", 1, 4)], {"n": 1}, running) == "fits"


def test_devices_that_the_waiting_trial_will_not_need_are_used() -> None:
    running = [RunningTrial("A", 2, ("n",), remaining_s=5)]
    four, six = trial("four", 4, 10), trial("six", 1, 6)
    assert chosen([four, six], {"n": 3}, running) == "six", "5 free then, 4 needed: one to spare"
    assert chosen([four, trial("two", 2, 6)], {"n": 3}, running) is None
    assert chosen([four, trial("pair", 2, 6)], {"n": 1, "m": 2}, running) == "pair"


def test_a_trial_that_can_never_fit_holds_nobody_up() -> None:
    assert chosen([trial("huge", 16, 9), trial("one", 1, 1)], {"n": 2}) == "one"


def test_models_do_not_wait_for_each_other() -> None:
    waiting = [trial("a", 1, 1), trial("b", 1, 1, model="B")]
    assignment = next_assignment(waiting, {"A": {"n": 0}, "B": {"n": 1}})
    assert assignment is not None
    assert assignment.trial_id == "b"


def test_nodes_are_filled_tightly_and_shared_evenly() -> None:
    assert choose_nodes({"a": 8, "b": 2, "c": 4}, 2) == ("b",)
    assert choose_nodes({"a": 8, "b": 2, "c": 4}, 8, node_count=2) == ("c", "a")
    assert choose_nodes({"a": 8, "b": 2}, 8, node_count=2) is None
    assert choose_nodes({"a": 8, "b": 8}, 3, node_count=2) is None


def makespan_s(trials: list[WaitingTrial], devices: int, error: float, seed: int = 0) -> tuple[float, list[str]]:
    """Plays the study: true durations differ from the forecast by up to `error`. Returns the end and the order."""
    draw = random.Random(seed)
    waiting, free, now_s, order = list(trials), devices, 0.0, []
    ends: list[tuple[float, str, RunningTrial, float]] = []
    while waiting or ends:
        running = [RunningTrial(r.model, r.count, r.nodes, max(0.0, due - now_s)) for _, _, r, due in ends]
        found = next_assignment(waiting, {"A": {"n": free}}, running)
        if found is None:
            now_s, _, done, _ = heapq.heappop(ends)
            free += done.count
            continue
        started = next(t for t in waiting if t.trial_id == found.trial_id)
        waiting.remove(started)
        order.append(started.trial_id)
        free -= started.count
        assert free >= 0
        true_s = started.expected_s * draw.uniform(1 - error, 1 + error)
        run = RunningTrial("A", started.count, found.nodes, 0)
        heapq.heappush(ends, (now_s + true_s, started.trial_id, run, now_s + started.expected_s))
    return now_s, order


@pytest.mark.parametrize("seed", range(3))
def test_a_mixed_study_ends_near_the_lower_bound_with_wrong_forecasts(seed: int) -> None:
    draw = random.Random(seed)
    trials = [trial(f"t{i}", draw.choice([1, 1, 2, 4, 8]), draw.uniform(5, 60)) for i in range(150)]
    end_s, order = makespan_s(trials, devices=8, error=0.3, seed=seed)
    # The bound from the forecasts; the true durations' mean differs from theirs by little over 150 trials.
    bound_s = max(sum(t.count * t.expected_s for t in trials) / 8, max(t.expected_s for t in trials))
    assert sorted(order) == sorted(t.trial_id for t in trials)
    assert end_s <= 1.12 * bound_s
