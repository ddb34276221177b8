"""Joules from power alone: what a sensor's lag, and the time that it does not see, do to them and to their error."""

import math
from dataclasses import replace

import numpy as np
import pytest

from joulelaw.bench.energy.energy import DeviceEnergy, window_energy
from joulelaw.cluster.power.sensor import Sensor
from tests.bench.metering_simulation import SECOND, SENSORS, Simulated, simulated
from tests.bench.test_energy import device, window
from tests.bench.test_ticks import LOADS
from tests.fake_nvml.devices import FakeGpu

LIMITS_W = (0.0, 400.0)


def measured(found: Simulated, begin_s: float, end_s: float, sensor: Sensor | None = None) -> DeviceEnergy:
    return window_energy(
        found.readings, round(begin_s * SECOND), round(end_s * SECOND), sensor or found.sensor, LIMITS_W
    )


def played(gpu: FakeGpu, sensor: str, seed: int = 1, until_s: float = 14.0) -> Simulated:
    return simulated(gpu, np.random.default_rng(seed), until_s, sensor, counter=False)


@pytest.mark.parametrize("sensor", SENSORS)
def test_a_trace_is_set_right_for_its_sensors_lag(sensor: str) -> None:
    """A load that climbs by 50 W a second: the average over 1 s is half a second late, and 25 W low, without."""
    climbing = FakeGpu("up", 50, 750, wave="ramp", period_ms=14000, duty=1.0)
    found = played(climbing, sensor)
    true_j = climbing.energy_j(3.0, 8.0)
    energy = measured(found, 3.0, 8.0)
    assert energy.energy_j == pytest.approx(true_j, rel=0.004)
    held = measured(found, 3.0, 8.0, Sensor())
    assert held.energy_j is not None
    assert true_j - held.energy_j > 50 * 5 * SENSORS[sensor][1] / 2, "as read, it is late"


@pytest.mark.parametrize("sensor", SENSORS)
@pytest.mark.parametrize("load", LOADS)
def test_the_stated_error_of_a_trace_covers(load: str, sensor: str) -> None:
    rng, covered = np.random.default_rng(2), []
    for seed in range(8):
        gpu = replace(LOADS[load], phase_ms=311.0 * seed, period_ms=LOADS[load].period_ms * (1 + 0.01 * seed))
        found = played(gpu, sensor, seed)
        for _ in range(5):
            begin_s = rng.uniform(1.5, 6)
            end_s = begin_s + rng.uniform(2, 6)
            energy = measured(found, begin_s, end_s)
            assert energy.energy_j is not None
            assert energy.stderr_j is not None
            covered.append(abs(energy.energy_j - gpu.energy_j(begin_s, end_s)) <= 1.96 * energy.stderr_j)
    assert np.mean(covered) >= 0.95


@pytest.mark.parametrize("sensor", ["a100", "v100"])
@pytest.mark.parametrize(("times", "off"), [(1.0, 0.0), (0.5, 0.0), (2.0, 0.0), (1.0, 1e-4), (1.0, 2e-3), (0.5, -1e-3)])
def test_a_load_in_step_with_its_sensor_is_not_stated_as_known(sensor: str, times: float, off: float) -> None:
    """The sensor sees the same part of each period, and its trace is calm, or beats slowly: the error may be 60 %."""
    every_s, _ = SENSORS[sensor]
    errors, covered = [], []
    for seed in range(12):
        period_ms = 1e3 * every_s * times * (1 + off)
        gpu = FakeGpu("beat", 80, 400, period_ms=period_ms, duty=0.35 + 0.025 * seed, phase_ms=period_ms * seed / 12)
        energy = measured(played(gpu, sensor, seed), 2.0, 9.0)
        assert energy.energy_j is not None
        assert energy.stderr_j is not None
        true_j = gpu.energy_j(2.0, 9.0)
        errors.append(abs(energy.energy_j - true_j) / true_j)
        covered.append(abs(energy.energy_j - true_j) <= 1.96 * energy.stderr_j)
    assert np.mean(covered) >= 0.9
    if (times, off) == (1.0, 0.0):
        assert max(errors) > 0.2, "otherwise this test tests nothing"


def test_a_sensor_that_sees_all_of_its_time_states_little_of_a_steady_load() -> None:
    found = played(LOADS["constant"], "turing")
    energy = measured(found, 3.0, 9.0)
    assert energy.energy_j == pytest.approx(1800.0)
    assert energy.stderr_j is not None
    assert energy.stderr_j < 0.01 * 1800


@pytest.mark.parametrize("repeats", [1, 2, 4])
def test_the_error_of_a_trace_is_that_of_random_samples(repeats: int) -> None:
    """Samples of scatter s, each for d seconds over n d: the mean is off by s / sqrt(n), the energy by s d sqrt(n).

    However often each is read: a sensor that has not looked again says nothing new.
    """
    rng = np.random.default_rng(2)
    n, d, s = 200, 0.1, 30.0
    errors, stated = [], []
    for _ in range(200):
        power_w = np.repeat(300.0 + s * rng.standard_normal(n), repeats)
        energy = window(device(np.arange(n * repeats) * d / repeats, power_w=power_w), 0.0, n * d)
        assert energy.energy_j is not None
        errors.append(energy.energy_j - 300.0 * n * d)
        stated.append(energy.stderr_j)
    assert np.std(errors) == pytest.approx(s * d * math.sqrt(n), rel=0.15)
    assert np.mean(stated) == pytest.approx(np.std(errors), rel=0.15)
