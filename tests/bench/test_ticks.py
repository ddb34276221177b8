"""Ticks of a counter found from readings alone, and the joules of any window between them, over seeded simulations."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from joulelaw.bench.energy.counter_ticks import all_ticks, ticks_near
from joulelaw.bench.energy.energy import DeviceEnergy, group_energy, window_energy
from joulelaw.bench.energy.tick_grid import find_grid, runs
from tests.bench.metering_simulation import SECOND, Floats, Simulated, simulated, tick_times
from tests.fake_nvml.devices import FakeGpu

LOADS = {
    "constant": FakeGpu("constant", 300, 300),
    "slow square": FakeGpu("slow", 80, 380, period_ms=1730, duty=0.4),
    "fast square": FakeGpu("fast", 90, 370, period_ms=47, duty=0.55),
    "ramp": FakeGpu("ramp", 70, 350, wave="ramp", period_ms=9100, duty=0.6),
    "bursts": FakeGpu("bursts", 80, 360, wave="burst", period_ms=1500, bursts=((0, 90), (160, 240), (700, 410))),
}


def ticking(load: str, tick_ms: float, seed: int) -> FakeGpu:
    return replace(LOADS[load], tick_ms=tick_ms, tick_phase_ms=(7.3 * seed) % tick_ms, phase_ms=137.0 * seed, seed=seed)


def measured(found: Simulated, begin_s: float, end_s: float, sensor: bool = True) -> DeviceEnergy:
    edges_ns = round(begin_s * SECOND), round(end_s * SECOND)
    return window_energy(found.readings, *edges_ns, found.sensor if sensor else None)


@pytest.mark.parametrize("tick_ms", [20, 33, 50, 100])
def test_ticks_lie_where_the_grid_says(tick_ms: float) -> None:
    """With bursts every 2 s each tick is known to 2 ms, though readings are up to 80 ms apart."""
    rng = np.random.default_rng(1)
    for seed in range(8):
        gpu = ticking("slow square", tick_ms, seed)
        found = simulated(gpu, rng, 16.0)
        time_s = found.readings.time_ns / SECOND
        ticks = ticks_near(8.0, time_s, found.readings.counter_j, found.sensor.counter_tick_s)
        assert ticks is not None
        true_s = tick_times(gpu, 20.0)
        nearest = true_s[np.argmin(np.abs(true_s[:, None] - ticks.time_s), axis=0)]
        assert np.all(np.abs(nearest - ticks.time_s) <= ticks.width_s / 2 + 1e-5)
        assert np.median(ticks.width_s) < 0.002
        shown = [1e3 + gpu.energy_j(0.0, at_s) for at_s in nearest]
        assert ticks.value_j == pytest.approx(shown, abs=0.002), "each value with its own tick, never the next one's"


@pytest.mark.parametrize("tick_ms", [20, 100])
def test_the_grid_is_never_wrong_by_a_tick(tick_ms: float) -> None:
    """Without a probed tick, without bursts, or with a probe that is off: found rightly, or not at all."""
    rng = np.random.default_rng(2)
    for seed in range(12):
        gpu = ticking("ramp", tick_ms, seed)
        found = simulated(gpu, rng, 16.0, bursts=seed % 2 == 0)
        time_s, counter_j = found.readings.time_ns / SECOND, found.readings.counter_j
        for probed_s in (None, 1.004e-3 * tick_ms, 0.995e-3 * tick_ms, 2e-3 * tick_ms):
            ticks = ticks_near(8.0, time_s, counter_j, probed_s)
            if ticks is not None:
                true_s = tick_times(gpu, 20.0)
                nearest = np.abs(true_s[:, None] - ticks.time_s).min(axis=0)
                assert np.all(nearest <= ticks.width_s / 2 + 1e-5)


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**32), st.floats(0.02, 0.12), st.floats(0.3, 0.9))
def test_ticks_without_a_rhythm_get_no_grid(seed: int, tick_s: float, scatter: float) -> None:
    """They are taken between the readings on either side, where each of them is."""
    rng = np.random.default_rng(seed)
    count = round(20 / tick_s)
    ticks_s = np.cumsum(tick_s * rng.uniform(1 - scatter, 1 + scatter, count)) - 1.0
    found = simulated(ticking("ramp", 100, 1), rng, 14.0, ticks_s=ticks_s[ticks_s < 16.0])
    time_s, counter_j = found.readings.time_ns / SECOND, found.readings.counter_j
    assert find_grid(runs(time_s, counter_j), 7.0, None) is None
    bracketed = all_ticks(time_s, counter_j, None)
    distance_s = np.abs(ticks_s[:, None] - bracketed.time_s).min(axis=0)
    assert np.all(distance_s <= bracketed.width_s / 2 + 1e-6)


@pytest.mark.parametrize("tick_ms", [20, 50, 100])
@pytest.mark.parametrize("load", LOADS)
def test_any_window_is_right_within_what_is_stated(load: str, tick_ms: float) -> None:
    """Windows of 2 s at any time: within a percent or two, and the stated uncertainty holds 95 % of them."""
    rng, errors, covered, widths = np.random.default_rng(3), [], [], []
    for seed in range(10):
        gpu = ticking(load, tick_ms, seed)
        found = simulated(gpu, rng, 14.0, sensor=("a100", "v100", "turing", "average")[seed % 4])
        for _ in range(6):
            begin_s = rng.uniform(2, 10)
            end_s = begin_s + rng.uniform(1.8, 2.2)
            energy = measured(found, begin_s, end_s)
            assert energy.energy_j is not None
            assert energy.stderr_j is not None
            true_j = gpu.energy_j(begin_s, end_s)
            errors.append(abs(energy.energy_j - true_j) / true_j)
            covered.append(abs(energy.energy_j - true_j) <= 1.96 * energy.stderr_j)
            widths.append(energy.stderr_j / true_j)
    assert np.mean(errors) < 0.006
    assert max(errors) < 0.025
    assert np.mean(covered) >= 0.95
    assert np.median(widths) < 0.03, "an error bar is no use when it covers everything"


def test_a_load_that_steps_once_a_second_is_interpolated_nearly_exactly() -> None:
    """A straight line between two ticks would be up to 7 J off where the step lies between them."""
    rng, gpu = np.random.default_rng(4), ticking("slow square", 100, 1)
    found = simulated(gpu, rng, 14.0)
    errors = []
    for begin_s in rng.uniform(3, 9, 60):
        energy = measured(found, begin_s, begin_s + 2)
        assert energy.energy_j is not None
        errors.append(abs(energy.energy_j - gpu.energy_j(begin_s, begin_s + 2)))
    assert max(errors) < 1.0


def test_each_device_of_a_group_has_ticks_of_its_own() -> None:
    rng = np.random.default_rng(5)
    gpus = [
        replace(ticking("constant", 100, 3), uuid="A"),
        replace(ticking("constant", 20, 5), uuid="B", low_w=120, high_w=120),
    ]
    found = {gpu.uuid: simulated(gpu, rng, 12.0) for gpu in gpus}
    readings = {uuid: each.readings for uuid, each in found.items()}
    sensors = {uuid: each.sensor for uuid, each in found.items()}
    energy = group_energy(readings, ["A", "B"], 4_123_456_789, 6_987_654_321, sensors=sensors)
    assert energy.energy_j == pytest.approx(420 * 2.864197532, rel=0.002)


def test_a_reset_and_a_gap_near_an_edge_leave_the_other_readings_their_grid() -> None:
    """The counter starts anew 1.5 s before the window, and nobody reads for 0.8 s inside it."""
    gpu = ticking("constant", 100, 2)
    found = simulated(gpu, np.random.default_rng(6), 14.0)
    time_s: Floats = found.readings.time_ns / SECOND
    kept = (time_s < 5.5) | (time_s > 6.3)
    counter_j = np.where(time_s < 2.5, found.readings.counter_j, found.readings.counter_j - 1700.0)
    readings = replace(
        found.readings,
        time_ns=found.readings.time_ns[kept],
        power_w=found.readings.power_w[kept],
        counter_j=counter_j[kept],
        lost=found.readings.lost[kept],
    )
    energy = measured(Simulated(readings, found.sensor), 4.0, 9.0)
    assert energy.energy_j == pytest.approx(1500.0, rel=1e-3)
    assert energy.counter_resets == 0
    assert 0.7 < energy.largest_gap_s < 1.1
    assert measured(Simulated(readings, found.sensor), 2.0, 9.0).counter_resets == 1
