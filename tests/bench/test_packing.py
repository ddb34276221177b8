"""What the benchmark of packing counts, on a schedule drawn by hand."""

from dataclasses import replace

import pytest

from benchmarks.packing_figures import Figures, Span, apart, figures, gaps_ms

#    0     2     4     6     8    10
# x  aaaaaaaaaaaa ccccccccccccc        (c begins 0.5 s after a and b are over)
# y  bbbbbbbb     ccccccccccccc
HAND = [Span(0.0, 5.0, ("x",)), Span(1.0, 4.0, ("y",)), Span(5.5, 10.0, ("x", "y"))]


def test_gaps_are_from_the_last_device_that_became_free() -> None:
    assert gaps_ms(HAND) == [pytest.approx(500)]


def test_the_bound_is_the_work_over_all_devices_and_warm_time_begins_with_the_last_device() -> None:
    found = figures(HAND, devices=2, driver_cpu_s=0.3, loop_s=10.0)
    assert found.bound_s == pytest.approx((5 + 3 + 2 * 4.5) / 2)
    assert found.bound_share == pytest.approx(8.5 / 10)
    assert found.warm_share == pytest.approx((4 + 3 + 9) / 2 / 9)
    assert (found.wall_s, found.one_by_one_s) == (10, pytest.approx(12.5))
    assert found.driver_cpu_ms == pytest.approx(100)


def test_one_long_trial_bounds_the_rest() -> None:
    long = figures([*HAND, Span(2.0, 11.5, ("z",))], devices=3, driver_cpu_s=0.0, loop_s=12.0)
    assert long.bound_s == pytest.approx(9.5)


def test_what_a_trial_costs_is_told_from_what_seconds_cost() -> None:
    def costing(trials: int, running_s: float, loop_s: float) -> Figures:
        cpu_s = trials * 0.020 + running_s * 0.005 + loop_s * 0.010
        return replace(figures(HAND, 2, cpu_s, loop_s), trials=trials, one_by_one_s=running_s)

    studies = [costing(48, 180, 42), costing(8, 165, 22), costing(2, 41, 22)]
    assert apart(studies) == pytest.approx((20, 5, 10))
