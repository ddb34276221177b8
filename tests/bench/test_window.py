"""How many steps are measured: both minima hold at the end, or the longest time is up."""

from hypothesis import given
from hypothesis import strategies as st

from joulelaw.bench.spec.configuration import Window
from joulelaw.bench.training.window import next_chunk

SECONDS = st.floats(0.001, 10)


def play(window: Window, durations: list[float], known_s: float | None) -> tuple[int, float, int]:
    """Steps done, time taken and chunks of a window whose steps take these times, the last one for ever."""
    done, elapsed_s, chunks = 0, 0.0, 0
    while chunk := next_chunk(window, done, elapsed_s, elapsed_s / done if done else known_s):
        chunks += 1
        for _ in range(chunk):
            elapsed_s += durations[min(done, len(durations) - 1)]
            done += 1
    return done, elapsed_s, chunks


@given(st.integers(1, 50), st.floats(0, 100), st.floats(1, 100), st.lists(SECONDS, min_size=1), st.none() | SECONDS)
def test_the_window_ends_when_both_minima_hold_or_time_is_up(
    min_steps: int, min_s: float, max_s: float, durations: list[float], known_s: float | None
) -> None:
    window = Window(min_steps=min_steps, min_s=min_s, max_s=max_s)
    done, elapsed_s, _ = play(window, durations, known_s)
    assert done >= 1
    assert elapsed_s >= max_s or (done >= min_steps and elapsed_s >= min_s)


@given(st.integers(1, 50), st.floats(0, 20), SECONDS)
def test_steady_steps_need_one_look_at_the_clock_and_overrun_by_little(
    min_steps: int, min_s: float, step_s: float
) -> None:
    window = Window(min_steps=min_steps, min_s=min_s, max_s=10_000)
    done, elapsed_s, chunks = play(window, [step_s], known_s=step_s)
    assert chunks == 1
    assert elapsed_s <= max(1.02 * min_s, min_steps * step_s) + step_s * 1.001
    assert done >= min_steps


def test_exactly_the_minimum_is_measured_when_no_time_is_asked_for() -> None:
    assert play(Window(min_steps=20), [0.01], known_s=0.01) == (20, 20 * 0.01 + play_rounding(), 1)


def play_rounding() -> float:
    """What adding 0.01 twenty times differs from 0.2 by."""
    return sum([0.01] * 20) - 0.2


@given(SECONDS, st.floats(1, 20))
def test_steps_that_turn_twice_as_slow_overrun_the_longest_time_by_less_than_two_steps(
    step_s: float, max_s: float
) -> None:
    _, elapsed_s, _ = play(Window(min_steps=10**6, max_s=max_s), [2 * step_s], known_s=step_s)
    assert elapsed_s <= max_s + 2 * step_s * 1.001
