"""The simulator and the scheduler in it: by hand, by what must hold of any study, and against the least time."""

from collections import Counter
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from joulelaw.cluster.failures import Cause
from joulelaw.cluster.scheduling.board import Board
from joulelaw.cluster.scheduling.fates import Fates
from joulelaw.cluster.scheduling.retries import next_step
from joulelaw.cluster.scheduling.scheduler import Assignment, WaitingTrial
from joulelaw.cluster.scheduling.simulator import Fate, simulate
from joulelaw.cluster.scheduling.timeline import Attempt, CapacityChange, Timeline, busy_share, lower_bound_s

FAILURES = {Cause.RANK_CRASH: 0.05, Cause.OUT_OF_MEMORY: 0.02, Cause.RANK_ERROR: 0.02}


def as_forecast(trial: WaitingTrial, attempt: int) -> Fate:
    return Fate(trial.expected_s)


def test_a_study_by_hand() -> None:
    """Two devices; the pair crashes once at 4 s; the node is lost at 12 s with a single on it, and comes back at 20."""

    def fate(trial: WaitingTrial, attempt: int) -> Fate:
        crashes = trial.trial_id == "pair" and attempt == 1
        return Fate(4.0, Cause.RANK_CRASH) if crashes else Fate(trial.expected_s)

    trials = [WaitingTrial("pair", "A", 2, 6.0), WaitingTrial("one", "A", 1, 5.0), WaitingTrial("two", "A", 1, 1.0)]
    changes = [CapacityChange(12.0, "n", {}), CapacityChange(20.0, "m", {"A": 2})]
    played = simulate(trials, {"n": {"A": 2}}, fate, changes)
    assert [(each.trial_id, each.nodes, each.began_s, each.ended_s, each.cause) for each in played.attempts] == [
        ("pair", ("n",), 0.0, 4.0, Cause.RANK_CRASH),
        ("pair", ("n",), 4.0, 10.0, None),
        ("two", ("n",), 10.0, 11.0, None),
        ("one", ("n",), 10.0, 12.0, Cause.NODE_LOST),
        ("one", ("m",), 20.0, 25.0, None),
    ]
    assert played.makespan_s == 25.0
    # 18 device-seconds need 9 s of two devices; the 2 s of the lost single and the 8 of the lost pair make it 28.
    assert lower_bound_s(played) == 9.0
    assert lower_bound_s(played, lost_attempts=True) == pytest.approx(20 + 4 / 2)
    assert busy_share(played, 10.0) == 1.0


def test_the_least_time_counts_devices_as_they_come_and_the_longest_trial() -> None:
    attempts = [Attempt("a", "A", 1, ("n",), 0.0, 10.0), Attempt("b", "A", 1, ("m",), 4.0, 10.0)]
    changes = [CapacityChange(0.0, "n", {"A": 1}), CapacityChange(4.0, "m", {"A": 3})]
    assert lower_bound_s(Timeline(attempts, changes)) == 10.0, "the longest trial"
    short = [Attempt(f"{i}", "A", 1, ("n",), float(i), i + 1.0) for i in range(16)]
    assert lower_bound_s(Timeline(short, changes)) == 4 + 12 / 4, "one device for 4 s, then four"


def test_results_are_not_tried_again_and_what_is_left_without_devices_is_told() -> None:
    trials = [WaitingTrial("full", "A", 1, 5.0), WaitingTrial("wide", "A", 4, 5.0)]
    played = simulate(trials, {"n": {"A": 2}}, lambda trial, attempt: Fate(1.0, Cause.OUT_OF_MEMORY))
    assert [each.trial_id for each in played.attempts] == ["full"]
    assert played.stranded == ["wide"]


def study(seed: int, number: int, models: int = 2, sizes: tuple[int, ...] = (1, 1, 2, 4, 8, 16)) -> list[WaitingTrial]:
    """Configurations with 3 repeats, every fifth the baseline of the four after it."""
    chance = Random(seed)
    found = []
    for i in range(number // 3):
        baseline, model = i % 5 == 0, f"M{i // 5 % models}"
        count = 1 if baseline else chance.choice(sizes)
        expected_s = chance.uniform(60.0, 600.0)
        for repeat in range(3):
            names = baseline, f"c{i}", f"case{i // 5}"
            found.append(WaitingTrial(f"t{i}-{repeat}", model, count, expected_s, -(-count // 8), repeat, *names))
    return found


def cluster(nodes: int, models: int = 2) -> dict[str, dict[str, int]]:
    return {f"n{m}-{i}": {f"M{m}": 8} for m in range(models) for i in range(nodes)}


@settings(max_examples=25, deadline=None, derandomize=True)
@given(seed=some.integers(0, 10**6), nodes=some.integers(2, 6), error=some.sampled_from([0.0, 0.3, 1.0]))
def test_whatever_happens_each_trial_comes_to_its_end_once_and_no_device_has_two(
    seed: int, nodes: int, error: float
) -> None:
    trials, there = study(seed, 120), cluster(nodes)
    fates = Fates(seed, error=error, failures=FAILURES)
    changes = fates.node_changes(there, mean_life_s=20_000, away_s=300, until_s=10_000)
    played = simulate(trials, there, fates, changes)
    assert played == simulate(trials, there, fates, changes), "the same again"
    attempts: dict[str, list[Attempt]] = {}
    for each in played.attempts:
        attempts.setdefault(each.trial_id, []).append(each)
    assert {*attempts, *played.stranded} == {trial.trial_id for trial in trials}
    for several in attempts.values():
        steps = [each.cause and next_step(each.cause, tries) for tries, each in enumerate(several, 1)]
        assert set(steps[:-1]) <= {"retry"}
        assert steps[-1] != "retry" or several[0].trial_id in played.stranded
        assert all(earlier.ended_s <= later.began_s for earlier, later in pairwise(several))
    assert not over_capacity(played)
    assert played.makespan_s >= lower_bound_s(played) * (1 - 1e-9)


def over_capacity(played: Timeline) -> list[str]:
    """Moments at which more ran on a node than it had devices for: ends first, then nodes' changes, then begins."""
    moments: list[tuple[float, int, str, int]] = []
    for each in played.attempts:
        for node in each.nodes:
            share = each.count // len(each.nodes)
            moments += [(each.began_s, 2, node, share), (each.ended_s, 0, node, -share)]
    moments += [(each.time_s, 1, each.node, sum(each.devices.values())) for each in played.changes]
    size: dict[str, int] = {}
    busy: Counter[str] = Counter()
    found = []
    for time_s, kind, node, number in sorted(moments):
        if kind == 1:
            size[node] = number
        else:
            busy[node] += number
        if busy[node] > size.get(node, 0):
            found.append(f"{node} at {time_s}: {busy[node]}")
    return found


class Watched(Board):
    """Remembers when devices were first to be free for a size whose turn it is, until it is another's turn."""

    def __init__(self) -> None:
        super().__init__()
        self.promised: dict[tuple[object, ...], float] = {}
        self.kept: list[tuple[float, float]] = []
        self._trials: dict[str, WaitingTrial] = {}

    def add(self, trial: WaitingTrial) -> None:
        super().add(trial)
        self._trials[trial.trial_id] = trial

    def next(self, now_s: float) -> Assignment | None:
        found = super().next(now_s)
        first = {size_of(each.trial): each.latest_s for each in self.reserved.values()}
        if found is None:
            self.promised = {size: self.promised.get(size, latest_s) for size, latest_s in first.items()}
        elif (size := size_of(self._trials[found.trial_id])) in self.promised:
            self.kept.append((now_s, self.promised.pop(size)))
        return found


def size_of(trial: WaitingTrial) -> tuple[object, ...]:
    return trial.model, trial.wave, trial.baseline, trial.count


def test_where_forecasts_hold_nobody_delays_the_size_whose_turn_it_is() -> None:
    number = 0
    for seed in range(20):
        board = Watched()
        simulate(study(seed, 120), cluster(3), as_forecast, scheduler=board)
        assert all(began_s <= promised_s + 1e-6 for began_s, promised_s in board.kept)
        number += len(board.kept)
    assert number > 100, "there were promises to keep"


def test_repeats_run_on_other_nodes_where_chance_would_not() -> None:
    """By chance, three of four nodes differ in 3/4 x 2/4 of the cases."""
    trials, there = study(5, 900, models=1, sizes=(1, 1, 2, 4)), cluster(4, models=1)
    played = simulate(trials, there, Fates(5))
    places: dict[str, list[tuple[str, ...]]] = {}
    for each in played.attempts:
        places.setdefault(each.trial_id.partition("-")[0], []).append(each.nodes)
    apart = sum(len(set(nodes)) == 3 for nodes in places.values()) / len(places)
    assert apart > 0.7


@pytest.mark.parametrize("seed", range(2))
def test_a_study_with_failures_and_wrong_forecasts_ends_near_the_least_time(seed: int) -> None:
    trials, there = study(seed, 3000), cluster(12)
    played = simulate(trials, there, Fates(seed, failures={Cause.RANK_CRASH: 0.01, Cause.OUT_OF_MEMORY: 0.005}))
    assert not played.stranded
    assert played.makespan_s <= 1.05 * lower_bound_s(played)
