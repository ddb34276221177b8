"""A study's own numbers on Ray's Prometheus endpoint, where the cluster has one."""

from collections.abc import Mapping
from typing import Any

import ray
from ray.util import metrics

from joulelaw.cluster.streams.metering import EnergyMeter, MeteredDevice


class StudyMetrics:
    """Sets joulelaw_power_w, joulelaw_trials and joulelaw_energy_j_total; Ray puts `ray_` before the names.

    They go out through the metrics agent of the driver's node, every `metrics_report_interval_ms`: 10 s, unless Ray was
    told otherwise, and a gauge that was not set since then is left out. `tell` costs some 3 us a number.
    """

    def __init__(self) -> None:
        device, meter = MeteredDevice._fields, EnergyMeter._fields
        self._power = metrics.Gauge("joulelaw_power_w", "Power of a device of the study by its meter, W.", device)
        self._trials = metrics.Gauge("joulelaw_trials", "Trials of the study by state.", ("state",))
        what = "Energy of the trials that this run has ended, by meter, J."
        self._energy = metrics.Counter("joulelaw_energy_j_total", what, meter)
        self._told_j: dict[EnergyMeter, float] = {}

    def tell(
        self,
        power_w: Mapping[MeteredDevice, float],
        trials: Mapping[str, int],
        energy_j: Mapping[EnergyMeter, float],
    ) -> None:
        """`trials` by state, `energy_j` of this run so far."""
        for device, watts in power_w.items():
            self._power.set(watts, device._asdict())
        for state, number in trials.items():
            self._trials.set(number, {"state": state})
        for meter, joules in energy_j.items():
            if (more_j := joules - self._told_j.get(meter, 0.0)) > 0:
                self._energy.inc(more_j, meter._asdict())
                self._told_j[meter] = joules


def study_metrics() -> StudyMetrics | None:
    """Of the Ray that this process is connected to; None where its nodes export no metrics."""
    entries: list[dict[str, Any]] = ray.nodes()
    return StudyMetrics() if any(entry["Alive"] and entry["MetricsExportPort"] > 0 for entry in entries) else None
