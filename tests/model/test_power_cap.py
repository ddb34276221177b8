"""Power limits: nothing where they do not bind, f^3 above the voltage's floor, and no cheaper work below it."""

import numpy as np
import pytest

from joulelaw.model.power_cap import BUSY_SHARE, FLOOR, STATIC_SHARE, relative_clock, relative_energy

DEFAULT_W = 300.0


def limit_at(dynamic_share: float) -> np.ndarray:
    return np.array([DEFAULT_W * (STATIC_SHARE + dynamic_share * (BUSY_SHARE - STATIC_SHARE))])


def clock_at(dynamic_share: float) -> float:
    return float(relative_clock(limit_at(dynamic_share), np.array([DEFAULT_W]))[0])


@pytest.mark.parametrize("limit_w", [300.0, 400.0, 0.9 * 300.0, np.nan])
def test_a_limit_that_a_busy_device_does_not_reach_changes_nothing(limit_w: float) -> None:
    clock = relative_clock(np.array([limit_w]), np.array([DEFAULT_W]))
    assert clock[0] == 1.0
    assert relative_energy(clock)[0] == 1.0


def test_above_the_floor_power_goes_with_the_cube_of_the_clock_and_an_operation_with_its_square() -> None:
    for share in (0.55, 0.7, 0.9):
        clock = clock_at(share)
        assert clock**3 == pytest.approx(share)
        assert relative_energy(np.array([clock]))[0] * clock == pytest.approx(share)


def test_below_the_floor_the_clock_goes_with_the_power_and_work_gets_no_cheaper() -> None:
    low, lower = clock_at(FLOOR / 2), clock_at(FLOOR / 4)
    assert low / lower == pytest.approx(2.0)
    assert relative_energy(np.array([low, lower])) == pytest.approx(FLOOR ** (2 / 3))
    assert clock_at(FLOOR * 1.0001) == pytest.approx(clock_at(FLOOR * 0.9999), rel=1e-3)
