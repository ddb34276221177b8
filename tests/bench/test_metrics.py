"""What Prometheus is told of a study: the power of each device now, and nothing of those that are silent."""

from collections.abc import Mapping

import pytest

from joulelaw.bench.study.metrics import EVERY_S, SILENT_S, Metrics, mean_power_w
from joulelaw.cluster.nodes.inventory import Device, Node
from joulelaw.cluster.power.meter import Reading
from joulelaw.cluster.streams.metering import EnergyMeter, MeteredDevice, MeterInfo, readings_batch

SECOND = 1_000_000_000
DEVICES = tuple(Device(f"GPU-{i}", "NVIDIA X", i, "cuda", 2**30, (i,), None, "") for i in range(2))
METERS = {"n": MeterInfo("nvml", "measured", "gpu", ("GPU-0", "GPU-1"), {"GPU-0": ("GPU-0",), "GPU-1": ("GPU-1",)}, {})}
MEASURED = EnergyMeter("nvml", "measured")


class Told:
    """Keeps what it was told."""

    def __init__(self) -> None:
        self.power_w: list[Mapping[MeteredDevice, float]] = []
        self.energy_j: Mapping[EnergyMeter, float] = {}

    def tell(
        self, power_w: Mapping[MeteredDevice, float], trials: Mapping[str, int], energy_j: Mapping[EnergyMeter, float]
    ) -> None:
        self.power_w.append(power_w)
        self.energy_j = energy_j


def test_power_is_the_mean_of_what_was_read_or_the_slope_of_a_counter() -> None:
    readings = [Reading("A", place * SECOND, power_w=10.0 * place) for place in range(3)]
    readings += [Reading("B", place * SECOND, energy_counter_j=100 + 7.0 * place) for place in range(3)]
    readings += [Reading("C", 0, error="lost"), Reading("D", 0, energy_counter_j=1.0)]
    readings += [Reading("E", place * SECOND, energy_counter_j=5.0 - place) for place in range(2)]  # a reset
    assert mean_power_w(readings_batch("nvml", readings)) == pytest.approx({"A": 10.0, "B": 7.0})


def test_it_is_told_once_a_second_and_not_of_devices_that_are_silent() -> None:
    told, now_s = Told(), 100.0
    metrics = Metrics(told, lambda: now_s)
    node = Node("n", "host", DEVICES, 2**30, 2, "")
    metrics.see({"n": readings_batch("nvml", [Reading("GPU-0", 1, 50.0), Reading("GPU-1", 1, 60.0)])})
    for _ in range(3):
        metrics.tell([node], METERS, {"running": 1}, {MEASURED: 5.0})
    assert told.power_w == [
        {("NVIDIA X", "GPU-0", "n", "nvml", "measured"): 50.0, ("NVIDIA X", "GPU-1", "n", "nvml", "measured"): 60.0}
    ]
    now_s += SILENT_S - 1
    metrics.see({"n": readings_batch("nvml", [Reading("GPU-1", 2, 70.0)])})
    now_s += EVERY_S + 0.1
    metrics.tell([node], METERS, {"running": 1}, {MEASURED: 9.0})
    assert told.power_w[1:] == [{("NVIDIA X", "GPU-1", "n", "nvml", "measured"): 70.0}]
    assert told.energy_j == {MEASURED: 9.0}
