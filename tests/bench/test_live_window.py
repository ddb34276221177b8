"""Which steps of a live training are measured: none of the warm-up, none around an interruption, all alike."""

import itertools
from collections.abc import Sequence

import pytest

from joulelaw.bench.live.piece import Micro, Piece, StepRecord
from joulelaw.bench.live.window import SETTLE_STEPS, Warmup, chosen_window, together

SECOND = 1_000_000_000
FULL = Micro(2, 8, 128, 2048, True)
NO_RULE = Warmup(10, 0.0)
LONG = 600.0


def steps(
    count: int, step_s: float = 0.1, first: int = 0, micro: Micro = FULL, begin_s: float = 0.0
) -> list[StepRecord]:
    edges = [round(SECOND * (begin_s + k * step_s)) for k in range(count + 1)]
    return [
        StepRecord(first + k, begin, end, 0.5, micro, False, 0)
        for k, (begin, end) in enumerate(itertools.pairwise(edges))
    ]


def span(records: Sequence[StepRecord], warmup: Warmup = NO_RULE, max_s: float = LONG) -> tuple[int, int, bool]:
    found = chosen_window(records, warmup, records[0].begin_ns - round(SECOND * 0.1 * records[0].step), max_s)
    assert found is not None
    return tuple(found)


def test_the_first_steps_of_a_training_are_warm_up() -> None:
    assert span(steps(100)) == (10, 100, True)
    assert chosen_window(steps(10), NO_RULE, 0, LONG) is None


def test_on_a_gpu_the_warm_up_goes_on_until_steps_are_steady() -> None:
    lengths_s = [0.1 * (1 + 3 * 0.95**k) for k in range(300)]
    edges = [round(SECOND * each) for each in itertools.accumulate(lengths_s, initial=0.0)]
    falling = [
        each._replace(begin_ns=begin, end_ns=end)
        for each, (begin, end) in zip(steps(300), itertools.pairwise(edges), strict=True)
    ]
    first, end, _ = span(falling, Warmup(10, 60.0))
    assert end == 300
    assert lengths_s[first] < 1.1 * lengths_s[-1], "what is measured is as fast as it will be"
    assert first < 200
    assert span(falling, Warmup(10, 5.0))[0] < first, "at most so long"
    assert span(falling, NO_RULE)[0] == 10


def test_after_an_interruption_a_few_steps_settle() -> None:
    assert span(steps(100, first=500)) == (SETTLE_STEPS, 100, True)


def test_the_window_ends_when_it_is_long_enough() -> None:
    first, end, _ = span(steps(1000), max_s=30.0)
    assert (end - first) * 0.1 == pytest.approx(30.0, abs=0.11)


def test_an_epochs_smaller_last_batch_ends_the_stretch() -> None:
    odd = FULL._replace(padded=1024, alike=False)
    records = [*steps(50), *steps(1, first=50, micro=odd, begin_s=5.0), *steps(80, first=51, begin_s=5.1)]
    assert span(records) == (51, 131, True)


def test_texts_that_are_padded_to_different_lengths_are_measured_and_told_apart() -> None:
    records = []
    for k in range(60):
        length = 64 + k % 7
        micro = Micro(1, 8, length, 8 * length, True)
        records += steps(1, first=k, micro=micro, begin_s=0.1 * k)
    assert span(records) == (10, 60, False)


def test_ranks_keep_the_steps_that_all_have_seen_and_are_alike_only_together() -> None:
    shorter = FULL._replace(length=64, padded=1024)
    one, other = steps(30), [*steps(20, micro=FULL), *steps(8, first=20, micro=shorter, begin_s=2.0)]
    kept = together([one, other])
    assert [len(records) for records in kept] == [28, 28]
    assert [each.micro.alike for each in kept[0]] == [True] * 20 + [False] * 8
    assert kept[0][3].end_ns == one[3].end_ns
    assert together([one, steps(5, first=100)]) == [[], []]


def test_columns_give_back_the_records_that_they_were_made_of() -> None:
    records = [each._replace(loss=None if each.step % 3 else 0.25, wait_ns=each.step) for each in steps(7)]
    piece = Piece()
    for each in records:
        piece.add(each)
    assert list(piece.records()) == records
    assert (len(piece), piece.seconds) == (7, pytest.approx(0.7))
