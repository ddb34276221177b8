"""Which of a live training's steps are its measured window: steady, one after the other, alike. Pure functions.

A study's window is of steps that nothing else came between, after a warm-up; so is this one. It is chosen when the
training is over, as only then it is known what came between: evaluations, checkpoints, and an epoch's last batch,
which is smaller than the others.
"""

from collections.abc import Sequence
from typing import NamedTuple

from joulelaw.bench.live.piece import Micro, StepRecord
from joulelaw.bench.training.warmup import HALF, steady

# Steps after an interruption that are not measured: caches have gone cold, and workers start to load data.
SETTLE_STEPS = 2
# A stretch of equal steps is preferred to a longer one of unequal steps if it has as many, and lasts as long.
LEAST_STEPS, LEAST_S = 20, 2.0
# Steadiness is looked for after every so many steps.
_LOOK_EVERY = 5


class Warmup(NamedTuple):
    """Optimizer steps that are never measured, and how long (s) more are left out until steps are steady."""

    steps: int
    max_s: float


class Chosen(NamedTuple):
    """Positions in the records: first, and one after the last. `alike`: every micro-batch had one shape."""

    first: int
    end: int
    alike: bool


def chosen_window(records: Sequence[StepRecord], warmup: Warmup, began_ns: int, max_s: float) -> Chosen | None:
    """The window among successive steps of one piece; None where all are warm-up. `began_ns`: when steps began."""
    first = warm_from(records, warmup, began_ns)
    if first >= len(records):
        return None
    longest = max(_alike_stretches(records, first), key=lambda each: _seconds(records, *each), default=None)
    if longest and longest[1] - longest[0] >= LEAST_STEPS and _seconds(records, *longest) >= LEAST_S:
        return Chosen(longest[0], _cut(records, *longest, max_s), True)
    whole = (first, len(records))
    alike = longest == whole
    return Chosen(first, _cut(records, *whole, max_s), alike)


def warm_from(records: Sequence[StepRecord], warmup: Warmup, began_ns: int) -> int:
    """The position of the first step that may be measured."""
    if not records:
        return 0
    after_begin = max(0, warmup.steps - records[0].step)
    first = max(after_begin, SETTLE_STEPS if records[0].step else 0)
    until_ns = began_ns + round(1e9 * warmup.max_s)
    step_s = [1e-9 * (each.end_ns - each.begin_ns) for each in records]
    while first < len(records) and records[first].begin_ns < until_ns and not steady(step_s[: max(first, 2 * HALF)]):
        first += _LOOK_EVERY
    return min(first, len(records))


def _alike_stretches(records: Sequence[StepRecord], first: int) -> list[tuple[int, int]]:
    """Maximal runs of steps whose micro-batches all had one shape, and were equally many."""
    found: list[tuple[int, int]] = []
    begin = first
    for at in range(first, len(records) + 1):
        if at == len(records) or not _is_like(records[at].micro, records[begin].micro):
            if records[begin].micro.alike and at > begin:
                found.append((begin, at))
            begin = at
    return found


def _is_like(one: Micro, other: Micro) -> bool:
    return one.alike and other.alike and one == other


def _cut(records: Sequence[StepRecord], first: int, end: int, max_s: float) -> int:
    last_ns = records[first].begin_ns + round(1e9 * max_s)
    while end > first + 1 and records[end - 1].end_ns > last_ns:
        end -= 1
    return end


def _seconds(records: Sequence[StepRecord], first: int, end: int) -> float:
    return 1e-9 * (records[end - 1].end_ns - records[first].begin_ns)


def together(by_rank: Sequence[Sequence[StepRecord]]) -> list[list[StepRecord]]:
    """The records of the steps that every rank has kept, by rank; a step is alike only where it is on all ranks."""
    common = set.intersection(*({each.step for each in records} for records in by_rank))
    kept = [[each for each in records if each.step in common] for records in by_rank]
    merged = []
    for records in zip(*kept, strict=True):
        same = all(each.micro == records[0].micro for each in records)
        merged.append([each._replace(micro=each.micro._replace(alike=each.micro.alike and same)) for each in records])
    return [list(records) for records in zip(*merged, strict=True)] if merged else [[] for _ in by_rank]
