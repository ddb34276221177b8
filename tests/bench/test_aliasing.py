"""Pauses against aliasing: on a simulated sensor that sees 25 ms of every 100, before and after."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from joulelaw.bench.training.aliasing import MOST, pause_s, sees_partly, swept
from joulelaw.cluster.power.sensor import Sensor

UPDATE_S, SEEN_S = 0.1, 0.025
HIGH_W, LOW_W = 400.0, 100.0
WINDOW_S = 12.0

Seconds = npt.NDArray[np.float64]


def joules_until(time_s: Seconds, step_s: float, pause: float) -> Seconds:
    """The true energy from 0 to a time: each step its first 30 % at high power, the rest and the pause at low."""
    period_s, high_s = step_s + pause, 0.3 * step_s
    whole = np.floor(time_s / period_s)
    into_s = time_s - whole * period_s
    return LOW_W * time_s + (HIGH_W - LOW_W) * (whole * high_s + np.minimum(into_s, high_s))


def worst_error(step_s: float, pause: float) -> float:
    """Of what the sensor tells of the window, over all phases between sensor and steps; a share of the truth."""
    errors = []
    for phase in np.linspace(0, 1, 41):
        begin_s = 5 * (step_s + pause) + phase * UPDATE_S
        updates_s = begin_s + np.arange(0, WINDOW_S, UPDATE_S)
        seen_j = joules_until(updates_s, step_s, pause) - joules_until(updates_s - SEEN_S, step_s, pause)
        told_j = np.sum(seen_j / SEEN_S) * UPDATE_S
        edges_s = np.array([begin_s, begin_s + updates_s.size * UPDATE_S])
        true_j = np.diff(joules_until(edges_s, step_s, pause))[0]
        errors.append(abs(told_j - true_j) / true_j)
    return float(max(errors))


@pytest.mark.parametrize("step_s", [0.1, 0.2, 0.3, 0.1003, 0.2995, 0.05, 0.025])
def test_a_sensor_in_step_is_far_off_and_with_the_pause_it_is_not(step_s: float) -> None:
    pause = pause_s(step_s, UPDATE_S, WINDOW_S)
    assert 0 < pause <= MOST * step_s
    before, after = worst_error(step_s, 0.0), worst_error(step_s, pause)
    assert after < 0.02
    if step_s > SEEN_S:  # else each reading sees whole steps
        assert before > 0.14, "what the issue is about"


@pytest.mark.parametrize("step_s", [0.137, 0.0731, 0.104, 0.096, 0.0513, 0.333])
def test_steps_out_of_time_with_the_sensor_are_left_alone(step_s: float) -> None:
    assert pause_s(step_s, UPDATE_S, WINDOW_S) == 0
    assert worst_error(step_s, 0.0) < 0.1


@given(st.floats(1e-4, 10), st.floats(0.01, 1), st.floats(0.1, 100))
def test_a_pause_is_small_and_helps_or_is_none(step_s: float, update_s: float, window_s: float) -> None:
    pause = pause_s(step_s, update_s, window_s)
    assert 0 <= pause <= MOST * step_s
    if pause:
        assert swept(step_s + pause, update_s, window_s) > swept(step_s, update_s, window_s)


def test_a_short_window_gets_what_it_can_and_no_more() -> None:
    assert pause_s(0.1, UPDATE_S, 2.0) == pytest.approx(MOST * 0.1)
    assert pause_s(0.0, UPDATE_S, 2.0) == 0


def test_only_sensors_that_are_known_to_leave_time_out_need_it() -> None:
    assert sees_partly(Sensor(power_update_s=0.1, power_averaged_s=0.025))
    assert not sees_partly(Sensor(power_update_s=0.1, power_averaged_s=0.1))
    assert not sees_partly(Sensor(power_update_s=0.1, power_averaged_s=1.0))
    assert not sees_partly(Sensor())
