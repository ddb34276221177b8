"""Smooth maxima: between the sum and the largest part, with slopes that are those of finite differences."""

import numpy as np
import pytest

from joulelaw.model.laws.smooth import Part, smooth_maximum

VALUES = np.array([[3.0, 1.0, 0.0], [2.0, 2.0, 2.0], [0.0, 0.0, 5.0], [0.0, 0.0, 0.0]])


def parts() -> list[Part]:
    return [Part(column, np.zeros((4, 1))) for column in VALUES.T]


@pytest.mark.parametrize(("overlap", "expected"), [(1e-9, VALUES.sum(axis=1)), (300.0, VALUES.max(axis=1))])
def test_blunt_it_is_the_sum_and_sharp_the_largest(overlap: float, expected: np.ndarray) -> None:
    np.testing.assert_allclose(smooth_maximum(parts(), overlap, 0).value, expected, rtol=1e-2)


def test_with_overlap_one_it_is_the_root_of_squares() -> None:
    np.testing.assert_allclose(smooth_maximum(parts(), 1.0, 0).value, np.linalg.norm(VALUES, axis=1))


def test_its_slopes_are_those_of_finite_differences() -> None:
    logs = np.log([0.7, 2.0, 1.3])

    def larger(u: np.ndarray) -> Part:
        first = Part(np.exp(u[:1]), np.array([[np.exp(u[0]), 0, 0]]))
        second = Part(np.exp(u[1:2]), np.array([[0, np.exp(u[1]), 0]]))
        return smooth_maximum([first, second], float(np.exp(u[2])), 2)

    slope = larger(logs).slope
    assert slope is not None
    for j in range(3):
        step = 1e-6 * np.eye(3)[j]
        numeric = (larger(logs + step).value - larger(logs - step).value) / 2e-6
        np.testing.assert_allclose(slope[:, j], numeric, rtol=1e-6)


def test_of_nothing_it_is_nothing() -> None:
    result = smooth_maximum(parts(), 2.0, 0)
    assert result.value[3] == 0
    assert result.slope is not None
    assert np.isfinite(result.slope).all()
