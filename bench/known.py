"""Sums and maxima of numbers that may be unknown: None as soon as one is, for the rest would pass for the whole."""

import math
from collections.abc import Iterable


def total(values: Iterable[float | None]) -> float | None:
    """The sum; None where there is nothing to add, too.

    >>> total([1.0, 2.0]), total([1.0, None]), total([])
    (3.0, None, None)
    """
    known = _all_known(values)
    return math.fsum(known) if known else None


def largest(values: Iterable[float | None]) -> float | None:
    """The largest; None where there is none, too."""
    return max(_all_known(values), default=None)


def _all_known(values: Iterable[float | None]) -> list[float]:
    """The values, or nothing where one of them is missing."""
    listed = list(values)
    known = [value for value in listed if value is not None]
    return known if len(known) == len(listed) else []
