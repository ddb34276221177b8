"""Which of many candidates are worth choosing: none of those left is better in both of two costs. Pure."""

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


def pareto_front(first: Array, second: Array) -> npt.NDArray[np.intp]:
    """Positions of the candidates that no other beats: none is as low in both costs, and lower in one.

    Sorted by the first cost, then by position; candidates that are equal in both stay together. One whose cost is not
    known (nan) neither stays nor beats another. Sorting once, n log n: among those of a lower or equal first cost a
    candidate must have the lowest second (Kung, Luccio and Preparata 1975).
    """
    known = np.flatnonzero(np.isfinite(first) & np.isfinite(second))
    order = known[np.lexsort((second[known], first[known]))]
    if not order.size:
        return order
    _, begin, which = np.unique(first[order], return_index=True, return_inverse=True)
    lowest = second[order[begin]]  # of each first cost
    before = np.concatenate([[np.inf], np.minimum.accumulate(lowest)[:-1]])
    kept = (lowest < before)[which] & (second[order] == lowest[which])
    return np.asarray(order[kept])
