"""Warm-up by a rule: noise does not hold it up, trends and changes of scatter do, and time ends it."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from joulelaw.bench.spec.configuration import Window
from joulelaw.bench.training.warmup import LONGEST_S, longest_s, settled, steady, warmup_chunk


def noisy(count: int, step_s: float = 0.1, share: float = 0.05, seed: int = 1, trend: float = 0.0) -> list[float]:
    """Step times with normal noise of a share, that change by `trend` of themselves from first to last."""
    rng = random.Random(seed)
    return [step_s * (1 + trend * k / count + rng.gauss(0, share)) for k in range(count)]


@pytest.mark.parametrize("share", [0.0, 0.002, 0.05, 0.2])
def test_steps_that_only_scatter_are_steady_nearly_always(share: float) -> None:
    assert sum(steady(noisy(60, share=share, seed=seed)) for seed in range(200)) > 170


@pytest.mark.parametrize(("share", "trend"), [(0.001, 0.15), (0.001, -0.15), (0.02, 0.4), (0.02, -0.4)])
def test_steps_with_a_trend_are_not(share: float, trend: float) -> None:
    assert not any(steady(noisy(60, share=share, seed=seed, trend=trend)) for seed in range(50))


def test_steps_whose_scatter_just_ended_are_not() -> None:
    settling = [*noisy(30, share=0.3), *noisy(10, share=0.3, seed=2), *noisy(10, share=0.001, seed=3)]
    assert not steady([*settling, *noisy(10, share=0.001, seed=4)])


def test_slow_first_steps_are_forgotten_once_as_many_were_not() -> None:
    usual = noisy(40, share=0.003)
    assert steady([5.0, 2.0, 1.0, *usual])
    assert not steady([5.0, 2.0, 1.0, *usual[:5]])


@given(st.lists(st.floats(1e-6, 100), max_size=200))
def test_few_steps_say_nothing_and_no_times_break_the_rule(step_s: list[float]) -> None:
    assert isinstance(steady(step_s), bool)
    assert not steady(step_s[:9])


def test_a_temperature_has_settled_when_it_rose_by_no_more_than_a_degree() -> None:
    times_s = [0.0, 1.0, 2.0, 3.0, 4.0]
    assert settled(times_s, [60, 60, 61, 61, 61])
    assert settled(times_s, [80, 75, 70, 65, 60]), "what cools down does not heat up"
    assert not settled(times_s, [50, 53, 56, 58, 60])
    assert not settled(times_s[:3], [60, 60, 60]), "not seen for long enough"


def test_the_rule_is_for_gpus_unless_the_sweep_says_so() -> None:
    assert (longest_s(Window(), "cpu"), longest_s(Window(), "cuda")) == (0.0, LONGEST_S["cuda"])
    assert (longest_s(Window(warmup_max_s=0.0), "cuda"), longest_s(Window(warmup_max_s=7.0), "cpu")) == (0.0, 7.0)


def play(step_s: list[float], longest: float, warm_after_s: float = 0.0) -> tuple[int, float]:
    """Steps and seconds of a warm-up whose steps take these times, the last one for ever."""
    taken: list[float] = []
    while chunk := warmup_chunk(taken, sum(taken), longest, sum(taken) >= warm_after_s):
        taken += [step_s[min(len(taken) + k, len(step_s) - 1)] for k in range(chunk)]
    return len(taken), sum(taken)


def test_a_warmup_ends_with_the_later_of_steps_and_temperature_and_with_its_time() -> None:
    steps, seconds = play([3.0, 0.1], 60.0)
    assert steps >= 10
    assert seconds < 6
    assert 20 <= play([3.0, 0.1], 60.0, warm_after_s=20)[1] < 21
    assert 30 <= play([3.0, 0.1], 30.0, warm_after_s=1e9)[1] < 31
    drifting = [0.1 * 1.02**k for k in range(1000)]
    assert 10 <= play(drifting, 10.0)[1] < 10 + 2
