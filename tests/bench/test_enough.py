"""How well a window is known: intervals cover as often as they say, with steps that are independent or swing."""

import math
import random

import pytest
from scipy import stats

from joulelaw.bench.trial.enough import LEAST_STEPS, half_width


def steps(count: int, seed: int, share: float = 0.1, memory: float = 0.0) -> list[float]:
    """Step times around 0.1 s: a first-order autoregression of this memory, stationary, of this relative scatter."""
    rng = random.Random(seed)
    swing, found = rng.gauss(0, share), []
    for _ in range(count):
        found.append(0.1 * (1 + swing))
        swing = memory * swing + rng.gauss(0, share * math.sqrt(1 - memory**2))
    return found


@pytest.mark.parametrize("count", [5, 6, 10, 20])
def test_of_few_steps_it_is_students_interval_of_their_mean(count: int) -> None:
    step_s = steps(count, seed=1)
    low, high = stats.t.interval(0.95, count - 1, loc=0.0, scale=stats.sem(step_s))
    assert half_width(100.0, 0.0, step_s) == pytest.approx((high - low) / 2 / (sum(step_s) / count))


@pytest.mark.parametrize(("count", "memory"), [(8, 0.0), (20, 0.0), (100, 0.0), (400, 0.0), (400, 0.8)])
def test_the_mean_of_many_windows_is_within_the_told_width_nineteen_times_of_twenty(count: int, memory: float) -> None:
    inside = 0
    for seed in range(600):
        step_s = steps(count, seed, memory=memory)
        width = half_width(100.0, 0.0, step_s)
        assert width is not None
        mean_s = sum(step_s) / count
        inside += abs(mean_s - 0.1) <= width * mean_s
    assert inside / 600 > (0.9 if memory else 0.92)


def test_both_parts_count() -> None:
    even = [0.1] * 50
    assert half_width(1000.0, 5.0, even) == pytest.approx(1.96 * 0.005, rel=1e-3)
    scattered = steps(50, 1)
    only = half_width(1000.0, 0.0, scattered)
    both = half_width(1000.0, 5.0, scattered)
    assert only is not None
    assert both == pytest.approx(math.hypot(only, 1.96 * 0.005), rel=1e-3)


def test_too_little_is_not_known() -> None:
    assert half_width(100.0, 1.0, [0.1] * (LEAST_STEPS - 1)) is None
    assert half_width(0.0, 1.0, [0.1] * 50) is None
