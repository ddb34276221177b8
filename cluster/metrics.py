"""A study's own numbers on Ray's Prometheus endpoint, where the cluster has one."""

from collections.abc import Mapping
from typing import Any

import ray
from ray.util import metrics


class StudyMetrics:
    """Sets joulelaw_power_w, joulelaw_trials and joulelaw_energy_j_total; Ray puts `ray_` before the names.

    They go out through the metrics agent of the driver's node, every `metrics_report_interval_ms`: 10 s, unless Ray was
    told otherwise, and a gauge that was not set since then is left out. `tell` costs some 3 us a number.
    """

    def __init__(self) -> None:
        where = ("gpu_model", "device_uuid", "node")
        self._power = metrics.Gauge("joulelaw_power_w", "Power of a metered device of the study, W.", where)
        self._trials = metrics.Gauge("joulelaw_trials", "Trials of the study by state.", ("state",))
        self._energy = metrics.Counter("joulelaw_energy_j_total", "Energy of the trials that this run has ended, J.")
        self._told_j = 0.0

    def tell(self, power_w: Mapping[tuple[str, str, str], float], trials: Mapping[str, int], energy_j: float) -> None:
        """`power_w` by (gpu_model, device_uuid, node), `trials` by state, `energy_j` of this run so far."""
        for (model, uuid, node), watts in power_w.items():
            self._power.set(watts, {"gpu_model": model, "device_uuid": uuid, "node": node})
        for state, number in trials.items():
            self._trials.set(number, {"state": state})
        if energy_j > self._told_j:
            self._energy.inc(energy_j - self._told_j)
            self._told_j = energy_j


def study_metrics() -> StudyMetrics | None:
    """Of the Ray that this process is connected to; None where its nodes export no metrics."""
    entries: list[dict[str, Any]] = ray.nodes()
    return StudyMetrics() if any(entry["Alive"] and entry["MetricsExportPort"] > 0 for entry in entries) else None
