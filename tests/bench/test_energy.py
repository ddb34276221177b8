"""Joules of windows against closed forms: counters with ticks, held traces, resets, gaps, groups and their meters."""

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from joulelaw.bench.dataset.tables import POWER
from joulelaw.bench.energy.energy import DeviceEnergy, combine, group_energy, window_energy
from joulelaw.bench.energy.readings import DeviceReadings, from_readings, from_table, power_series
from joulelaw.cluster.power.meter import Reading

Floats = npt.NDArray[np.float64]
SECOND = 1_000_000_000


def true_energy_j(time_s: Floats | float, low_w: float, high_w: float, period_s: float) -> Floats | float:
    """Of a square wave, high for the first half of each period, from 0 to `time_s`."""
    periods = np.floor(np.asarray(time_s) / period_s)
    rest_s = np.asarray(time_s) - periods * period_s
    return low_w * np.asarray(time_s) + (high_w - low_w) * (periods * period_s / 2 + np.minimum(rest_s, period_s / 2))


def device(
    time_s: Floats | list[float],
    power_w: Floats | list[float] | None = None,
    counter_j: Floats | list[float] | None = None,
    tick_s: float | None = None,
    lost: list[bool] | None = None,
) -> DeviceReadings:
    """Readings at these seconds; what is not given is missing."""
    count = len(time_s)
    nothing = np.full(count, np.nan)
    return DeviceReadings(
        "A",
        np.round(np.asarray(time_s) * SECOND).astype(np.int64),
        nothing if power_w is None else np.asarray(power_w, dtype=np.float64),
        nothing if counter_j is None else np.asarray(counter_j, dtype=np.float64),
        np.array(lost or [False] * count, dtype=np.bool_),
        tick_s,
    )


def window(readings: DeviceReadings, begin_s: float, end_s: float) -> DeviceEnergy:
    return window_energy(readings, round(begin_s * SECOND), round(end_s * SECOND))


def ticking(rng: np.random.Generator, tick_s: float, low_w: float, high_w: float, period_s: float) -> DeviceReadings:
    """20 Hz readings over 14 s of a counter that moves on every `tick_s`, with power as a 100 ms sensor shows it."""
    time_s = np.sort(np.arange(0.0, 14.0, 0.05) + rng.exponential(0.001, 280))
    tick_at, sensor_at = rng.uniform(0, tick_s), rng.uniform(0, 0.1)
    shown_at = np.maximum(0.0, np.floor((time_s - tick_at) / tick_s) * tick_s + tick_at)
    looked_at = np.floor((time_s - sensor_at) / 0.1) * 0.1 + sensor_at + 1.0
    wave = (low_w, high_w, period_s)
    power_w = (true_energy_j(looked_at, *wave) - true_energy_j(looked_at - 0.025, *wave)) / 0.025
    return device(time_s, power_w, np.round(true_energy_j(shown_at, *wave), 3))


WAVES = [(300.0, 300.0, 1.0), (80.0, 400.0, 3.1), (80.0, 400.0, 0.23), (80.0, 400.0, 0.037)]


@pytest.mark.parametrize("tick_s", [0.02, 0.1])
@pytest.mark.parametrize("wave", WAVES)
def test_a_ticking_counter_is_right_within_its_stated_error(tick_s: float, wave: tuple[float, float, float]) -> None:
    """Windows of 10 s: 0.25 % on average, none beyond 1 %, and two standard errors hold 95 % of them."""
    rng = np.random.default_rng(1)
    errors, covered = [], []
    for _ in range(60):
        readings, begin_s = ticking(rng, tick_s, *wave), rng.uniform(0.5, 3.0)
        true_j = float(true_energy_j(begin_s + 10, *wave) - true_energy_j(begin_s, *wave))
        energy = window(readings, begin_s, begin_s + 10)
        assert energy.source == "counter"
        assert energy.energy_j is not None
        assert energy.stderr_j is not None
        errors.append(abs(energy.energy_j - true_j) / true_j)
        covered.append(abs(energy.energy_j - true_j) <= 2 * energy.stderr_j)
        assert energy.stderr_j < 0.01 * true_j, "an error bar is no use when it covers everything"
    assert np.mean(errors) < 0.0025
    assert max(errors) < 0.01
    assert np.mean(covered) >= 0.95


def test_a_steady_counter_without_ticks_is_exact() -> None:
    """CPU time, or RAPL: known to move on always, it is read off the line through the readings themselves."""
    time_s = np.arange(0.0, 5.0, 0.05)
    energy = window(device(time_s, counter_j=70.0 * time_s, tick_s=0.0), 1.013, 3.777)
    assert energy.energy_j == pytest.approx(70.0 * 2.764, rel=1e-12)
    assert energy.stderr_j is not None
    assert energy.stderr_j < 0.005 * energy.energy_j, "only for what power may do between two readings"
    assert energy.trace_j is None
    assert energy.disagreement is None


def test_a_counter_that_rests_is_no_gap_where_its_tick_is_known() -> None:
    """A rank that waits uses no CPU: 2 s at 5 W, 2 s at nothing, 2 s at 5 W."""
    time_s = np.arange(0.0, 6.01, 0.1)
    counter_j = 5.0 * (np.minimum(time_s, 2.0) + np.maximum(time_s - 4.0, 0.0))
    energy = window(device(time_s, counter_j=counter_j, tick_s=0.0), 1.0, 5.0)
    assert energy.energy_j == pytest.approx(10.0, abs=1e-9)
    assert energy.largest_gap_s == pytest.approx(0.1, abs=1e-6)
    unknown = window(device(time_s, counter_j=counter_j), 1.0, 5.0)
    assert unknown.largest_gap_s == pytest.approx(2.1, abs=0.11), "a counter that may tick late has stalled"


def test_a_process_that_ends_with_its_window_has_its_last_moments_counted() -> None:
    """The last reading is 40 ms before the end of the window; power is taken to have gone on."""
    time_s = np.arange(0.0, 3.01, 0.1)
    energy = window(device(time_s, counter_j=8.0 * time_s, tick_s=0.0), 1.0, 3.04)
    assert energy.energy_j == pytest.approx(8.0 * 2.04, abs=1e-6)
    assert window(device(time_s, counter_j=8.0 * time_s, tick_s=0.0), 1.0, 3.7).energy_j is None


def test_the_trace_holds_each_reading_from_its_own_time() -> None:
    """By hand: 10 W until 1.2 s, 50 W until 1.5 s, 50 W again until 3 s, 20 W until the end at 3.4 s."""
    energy = window(device([0.9, 1.2, 1.5, 3.0, 3.5], power_w=[10, 50, 50, 20, 999]), 1.0, 3.4)
    assert energy.energy_j == pytest.approx(10 * 0.2 + 50 * 0.3 + 50 * 1.5 + 20 * 0.4)
    assert energy.source == "trace"
    assert energy.largest_gap_s == pytest.approx(1.5)
    assert energy.readings == 3


def test_repeated_readings_of_a_square_wave_keep_its_energy() -> None:
    """100 W for 1 s, 500 W for 1 s: joined by straight lines without repeats this would lose or add a fifth."""
    time_s = np.arange(0.0, 12.0, 0.05)
    power_w = np.where(np.floor(time_s + 1e-9) % 2 == 0, 100.0, 500.0)
    energy = window(device(time_s, power_w=power_w), 1.0, 11.0)
    assert energy.energy_j == pytest.approx(3000.0, abs=1e-6)
    assert energy.stderr_j is not None
    assert energy.stderr_j < 0.1 * 3000


def test_a_trace_that_begins_just_inside_its_window_is_held_back_to_the_edge() -> None:
    """By hand: 10 W for the first 0.5 s, of which 0.3 s before its reading, then 20 W for 1.5 s."""
    energy = window(device([1.3, 1.5, 2.9], power_w=[10, 20, 20]), 1.0, 3.0)
    assert energy.energy_j == pytest.approx(10 * 0.5 + 20 * 1.5)
    assert window(device([1.6, 1.8, 2.9], power_w=[10, 20, 20]), 1.0, 3.0).energy_j is None


def test_a_hole_before_or_after_the_window_is_no_gap() -> None:
    time_s = [0.0, *np.arange(5.0, 8.0, 0.1), 12.0]
    assert window(device(time_s, power_w=[30.0] * len(time_s)), 5.2, 7.5).largest_gap_s == pytest.approx(0.1)


def test_counter_and_trace_are_both_kept_and_compared() -> None:
    time_s = np.arange(0.0, 4.0, 0.1)
    energy = window(device(time_s, power_w=np.full(40, 33.0), counter_j=30.0 * time_s), 1.0, 3.0)
    assert energy.energy_j == energy.counter_j == pytest.approx(60.0)
    assert energy.trace_j == pytest.approx(66.0)
    assert energy.disagreement == pytest.approx(0.1)


@pytest.mark.parametrize(("reset_s", "resets"), [(0.5, 0), (0.95, 0), (2.0, 1), (3.05, 0), (3.5, 0)])
def test_a_reset_matters_only_inside_the_window(reset_s: float, resets: int) -> None:
    time_s = np.arange(0.0, 5.0, 0.1)
    counter_j = 20.0 * time_s + np.where(time_s > reset_s, -20.0 * reset_s, 500.0)
    energy = window(device(time_s, counter_j=counter_j), 1.0, 3.0)
    assert energy.counter_resets == resets
    assert energy.energy_j == (None if resets else pytest.approx(40.0))


def missing_between(begin_s: float, end_s: float) -> DeviceReadings:
    time_s = np.array([at for at in np.arange(0.0, 5.0, 0.1) if not begin_s < at < end_s])
    return device(time_s, counter_j=20.0 * time_s)


def test_a_hole_in_a_counter_shows_and_a_hole_at_an_edge_leaves_no_number() -> None:
    inside = window(missing_between(1.45, 2.65), 1.0, 4.0)
    assert inside.energy_j == pytest.approx(60.0), "a counter counts on while nobody looks"
    assert inside.largest_gap_s == pytest.approx(1.3, abs=0.7)
    assert window(missing_between(3.25, 9.0), 1.0, 4.0).energy_j is None
    assert window(missing_between(-1.0, 1.75), 1.0, 4.0).energy_j is None


NOTHING: dict[str, Callable[[], DeviceReadings]] = {
    "no readings": lambda: device([]),
    "only errors": lambda: device([1.0, 1.5, 2.0]),
    "one reading": lambda: device([2.0], power_w=[30.0]),
    "one reading inside": lambda: device([0.9, 2.0, 3.1], power_w=[30.0] * 3),
    "frozen counter": lambda: device(np.arange(0.0, 5.0, 0.1), counter_j=np.full(50, 7.0)),
    "frozen counter of a known tick": lambda: device(np.arange(0.0, 5.0, 0.1), counter_j=np.full(50, 7.0), tick_s=0.0),
    "power of 0 W": lambda: device(np.arange(0.0, 5.0, 0.1), power_w=np.zeros(50)),
    "lost": lambda: device(
        np.arange(0.0, 5.0, 0.1), counter_j=20.0 * np.arange(0.0, 5.0, 0.1), lost=[False] * 20 + [True] * 30
    ),
    "clock backwards": lambda: device([0.5, 1.5, 1.4, 2.5, 3.5], counter_j=[1, 2, 3, 4, 5]),
    "elsewhere": lambda: device(np.arange(7.0, 9.0, 0.1), power_w=np.full(20, 30.0)),
}


@pytest.mark.parametrize("case", NOTHING)
def test_what_cannot_be_told_is_none_and_never_zero(case: str) -> None:
    energy = window(NOTHING[case](), 1.0, 3.0)
    assert energy.energy_j is None
    assert energy.stderr_j is None
    assert (energy.lost, energy.clock_jumps) == (case == "lost", case == "clock backwards")


@given(st.floats(1.0, 8.0), st.floats(0.3, 3.0), st.floats(0.3, 3.0), st.booleans())
def test_joules_of_adjacent_windows_add_up(begin_s: float, first_s: float, second_s: float, has_counter: bool) -> None:
    readings = ticking(np.random.default_rng(3), 0.1, 80.0, 400.0, 0.9)
    if not has_counter:
        readings = device(readings.time_ns / 1e9, power_w=readings.power_w)
    middle_s, end_s = begin_s + first_s, begin_s + first_s + second_s
    first, second = window(readings, begin_s, middle_s).energy_j, window(readings, middle_s, end_s).energy_j
    assert first is not None
    assert second is not None
    assert window(readings, begin_s, end_s).energy_j == pytest.approx(first + second, rel=1e-6)


def steady(domain: str, watts: float, node_s: float = 0.0) -> list[Reading]:
    """A counter and power of so many watts, on a clock that began `node_s` earlier."""
    times = [node_s + k / 10 for k in range(60)]
    return [Reading(domain, round(at * SECOND), watts, watts * at) for at in times]


def test_a_group_is_the_sum_of_its_devices() -> None:
    readings = from_readings([*steady("A", 30.0), *steady("B", 50.0), *steady("C", 7.0)])
    energy = group_energy(readings, ["A", "B"], SECOND, 4 * SECOND)
    assert energy.energy_j == pytest.approx(240.0)
    assert energy.trace_j == pytest.approx(240.0)
    assert energy.disagreement == pytest.approx(0.0, abs=1e-9)
    parts = [part.stderr_j for part in energy.devices if part.stderr_j is not None]
    assert energy.stderr_j == pytest.approx(math.hypot(*parts))
    assert len(parts) == 2


def test_a_device_without_a_number_takes_the_groups_number_away() -> None:
    readings = from_readings([*steady("A", 30.0), Reading("B", SECOND, error="not supported")])
    for group in (["A", "B"], ["A", "never metered"]):
        energy = group_energy(readings, group, SECOND, 4 * SECOND)
        assert energy.devices[0].energy_j == pytest.approx(90.0)
        assert energy.energy_j is None
        assert energy.stderr_j is None
        assert energy.trace_j is None


def test_a_shared_domain_counts_once_and_only_for_all_of_its_devices() -> None:
    readings, covers = from_readings(steady("package-0", 60.0)), {"package-0": ("cpu0", "cpu1"), "package-1": ("cpu2",)}
    whole = group_energy(readings, ["cpu1", "cpu0"], SECOND, 4 * SECOND, covers)
    assert whole.energy_j == pytest.approx(180.0)
    assert whole.shared_domains == ()
    part = group_energy(readings, ["cpu0"], SECOND, 4 * SECOND, covers)
    assert (part.energy_j, part.trace_j) == (None, None)
    assert part.shared_domains == ("package-0",)


def test_nodes_add_up_each_on_its_own_clock() -> None:
    first = group_energy(from_readings(steady("A", 30.0)), ["A"], SECOND, 4 * SECOND)
    second = group_energy(from_readings(steady("B", 50.0, node_s=9000.0)), ["B"], 9001 * SECOND, 9004 * SECOND)
    both = combine([first, second])
    assert both.energy_j == pytest.approx(240.0)
    assert [part.domain for part in both.devices] == ["A", "B"]
    missing = group_energy({}, ["C"], SECOND, 4 * SECOND)
    assert combine([first, missing]).energy_j is None


def test_a_power_table_says_the_same_as_the_live_readings() -> None:
    """Null cells, errors and the loss of a GPU come back as they went in, and the meter's tick with its name."""
    readings = [
        *steady("A", 30.0),
        Reading("B", 5, 1.5, None, 40.0),
        Reading("B", 9, error="gpu_lost: GPU is lost"),
        Reading("B", 7, None, 2.5, error="power: Unknown Error"),
    ]
    rows = [{"trial_id": "t", "attempt": 0, "node": "n", "meter": "rapl", **vars(reading)} for reading in readings]
    read = from_table(pa.Table.from_pylist(rows, schema=POWER))
    live = from_readings(readings, "rapl")
    assert read.keys() == live.keys() == {"A", "B"}
    for domain, expected in live.items():
        for name, values in vars(expected).items():
            np.testing.assert_array_equal(getattr(read[domain], name), values, err_msg=f"{domain} {name}")
    assert live["A"].tick_s == 1e-3
    assert live["B"].lost.tolist() == [False, True, False]
    assert from_readings(readings, "nvml")["A"].tick_s is None


def test_power_to_draw_is_as_read_or_the_counters_slope() -> None:
    """By hand: 4 J in 0.5 s, a reset, 3 J in 0.25 s."""
    times, watts = power_series(device([1.0, 1.5, 2.0, 2.25], counter_j=[10, 14, 1, 4]))
    assert (times.tolist(), watts.tolist()) == ([1.5 * SECOND, 2.25 * SECOND], [8.0, 12.0])
    times, watts = power_series(device([1.0, 1.5, 2.0], [30, math.nan, 40], [10, 14, 18]))
    assert (times.tolist(), watts.tolist()) == ([1.0 * SECOND, 2.0 * SECOND], [30.0, 40.0])
    assert power_series(device([1.0]))[1].size == 0
