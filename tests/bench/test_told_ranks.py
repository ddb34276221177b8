"""What real ranks do when they are told: a window that goes on until enough is known, a warm-up until all is warm."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from joulelaw.bench.spec.configuration import TrialSpec, Window
from joulelaw.cluster.ranks.gang import GangState
from joulelaw.cluster.ranks.local import LocalGang
from tests.bench.trial_ranks import TIME_OUT_S, TINY, cpu_device, fork_server

pytestmark = pytest.mark.xdist_group("ranks")

Said = dict[int, list[dict[str, Any]]]


def run(folder: Path, window: Window, tell: Callable[[Said], str], ranks: int = 1, **payload: Any) -> Said:
    """A trial on CPU ranks that are told, once, the word that `tell` gives for what they have said so far."""
    configuration = replace(TINY, strategy="ddp" if ranks > 1 else "single", gpu_count=ranks)
    gang = LocalGang(fork_server(), [cpu_device(index) for index in range(ranks)])
    said: Said = {rank: [] for rank in range(ranks)}
    told: set[str] = set()
    until = time.monotonic() + TIME_OUT_S
    gang.start(
        "joulelaw.bench.training.rank:run_rank",
        {"trial": TrialSpec(configuration, window=window).to_dict(), "root": ".", **payload},
        folder,
    )
    try:
        while gang.state is GangState.RUNNING:
            assert time.monotonic() < until, said
            for event in gang.poll():
                said[event["rank"]].append(event)
            if "go" not in told and all(of_kind(said, rank, "ready") for rank in said):
                told.add("go")
                gang.tell({"kind": "go"})
            if (word := tell(said)) and word not in told:
                told.add(word)
                gang.tell({"kind": word})
            time.sleep(0.01)
    finally:
        gang.stop()
    assert gang.state is GangState.DONE, gang.failure
    return said


def of_kind(said: Said, rank: int, kind: str) -> list[dict[str, Any]]:
    return [event for event in said[rank] if event["kind"] == kind]


def one(said: Said, rank: int, kind: str) -> dict[str, Any]:
    [event] = of_kind(said, rank, kind)
    return event


def steps(said: Said, rank: int) -> list[list[Any]]:
    return [row for event in of_kind(said, rank, "steps") for row in event["rows"]]


def measured_s(said: Said) -> float:
    rows = [row for row in steps(said, 0) if row[1]]
    return 1e-9 * (rows[-1][3] - rows[0][2]) if rows else 0.0


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_window_goes_on_until_enough_is_known_and_all_ranks_end_it_together(ranks: int, tmp_path: Path) -> None:
    window = Window(warmup_steps=2, min_steps=2, min_s=0.3, max_s=60, tolerance=0.01)
    said = run(tmp_path, window, lambda said: "enough" if measured_s(said) > 1.5 else "", ranks)
    ends = [one(said, rank, "window") for rank in said]
    assert len({end["measured_steps"] for end in ends}) == 1
    assert all(1.5 < 1e-9 * (end["end_ns"] - end["begin_ns"]) < 30 for end in ends)
    for rank in said:
        rows = steps(said, rank)
        assert [row[0] for row in rows] == list(range(2 + ends[0]["measured_steps"]))


def test_told_early_it_ends_with_its_minimum(tmp_path: Path) -> None:
    window = Window(warmup_steps=2, min_steps=5, min_s=0.5, max_s=60, tolerance=0.01)
    said = run(tmp_path, window, lambda said: "enough" if of_kind(said, 0, "ready") else "")
    end = one(said, 0, "window")
    assert 0.5 <= 1e-9 * (end["end_ns"] - end["begin_ns"]) < 5
    assert end["measured_steps"] >= 5


def test_never_told_it_ends_at_its_longest(tmp_path: Path) -> None:
    window = Window(warmup_steps=2, min_steps=2, min_s=0.1, max_s=1.2, tolerance=0.01)
    end = one(run(tmp_path, window, lambda said: ""), 0, "window")
    assert 1.0 < 1e-9 * (end["end_ns"] - end["begin_ns"]) < 6


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_warmup_by_the_rule_waits_for_the_word_and_counts_its_steps(ranks: int, tmp_path: Path) -> None:
    window = Window(warmup_steps=2, min_steps=5, warmup_max_s=60)
    said = run(tmp_path, window, lambda said: "warm" if len(steps(said, 0)) > 30 else "", ranks)
    for rank in said:
        end, rows = one(said, rank, "window"), steps(said, rank)
        assert end["warmup_steps"] > 30
        assert [row[1] for row in rows] == [False] * end["warmup_steps"] + [True] * 5
        warm_s = 1e-9 * (end["begin_ns"] - rows[0][2])
        assert end["warmup_s"] == pytest.approx(warm_s, abs=0.05)
        assert one(said, rank, "done")["micro_steps"] == 5


def test_a_warmup_that_is_never_told_ends_in_time(tmp_path: Path) -> None:
    window = Window(warmup_steps=2, min_steps=5, warmup_max_s=1.0)
    assert 1.0 <= one(run(tmp_path, window, lambda said: ""), 0, "window")["warmup_s"] < 6
