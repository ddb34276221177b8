"""What a study tells whoever watches its cluster with Prometheus: watts by device, trials by state, joules so far."""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from joulelaw.cluster.nodes.inventory import Node
from joulelaw.cluster.streams.metering import EnergyMeter, MeteredDevice, MeterInfo

EVERY_S = 1.0
# A device of which nothing was heard for so long has no power that could be told.
SILENT_S = 10.0


class Endpoint(Protocol):
    """Where it is told; see cluster.metrics.StudyMetrics."""

    def tell(
        self, power_w: Mapping[MeteredDevice, float], trials: Mapping[str, int], energy_j: Mapping[EnergyMeter, float]
    ) -> None: ...


class Ended:
    """The trials that a run has ended: how many by state, and their joules by meter."""

    def __init__(self) -> None:
        self.trials = Counter(valid=0, invalid=0, failed=0)
        self.energy_j: dict[EnergyMeter, float] = {}

    def take(self, row: Mapping[str, Any] | None) -> None:
        """One more, by its row; None where it is tried again."""
        if row is None:
            return
        self.trials[row["verdict"] if row["status"] == "done" else row["status"]] += 1
        if row["energy_j"] is not None:
            meter = EnergyMeter(row["meter"], row["meter_kind"])
            self.energy_j[meter] = self.energy_j.get(meter, 0.0) + row["energy_j"]


class Metrics:
    """Without an `endpoint` it does nothing, at no cost."""

    def __init__(self, endpoint: Endpoint | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._endpoint, self._clock = endpoint, clock
        self._power_w: dict[tuple[str, str], tuple[float, float]] = {}  # watts, and when they were heard
        self._due_s = float("-inf")

    def see(self, drained: Mapping[str, pa.RecordBatch]) -> None:
        """New readings by node."""
        if self._endpoint is None:
            return
        for node, readings in drained.items():
            for domain, watts in mean_power_w(readings).items():
                self._power_w[node, domain] = watts, self._clock()

    @property
    def is_due(self) -> bool:
        """Whether it is time to tell again."""
        return self._endpoint is not None and self._clock() >= self._due_s

    def tell(
        self,
        nodes: Sequence[Node],
        meters: Mapping[str, MeterInfo],
        trials: Mapping[str, int],
        energy_j: Mapping[EnergyMeter, float],
    ) -> None:
        """Tells how it stands, unless that is not due. `trials` by state; `energy_j` of those that have ended."""
        if self._endpoint is None or not self.is_due:
            return
        now_s = self._clock()
        self._due_s = now_s + EVERY_S
        models = {device.uuid: device.model for node in nodes for device in node.devices}
        power_w = {}
        for (node, domain), (watts, heard_s) in self._power_w.items():
            if now_s - heard_s < SILENT_S:
                meter = meters[node]
                covered = {models[uuid] for uuid in meter.covers.get(domain, ()) if uuid in models}
                power_w[MeteredDevice("+".join(sorted(covered)), domain, node, meter.name, meter.kind)] = watts
        self._endpoint.tell(power_w, trials, energy_j)


def mean_power_w(readings: pa.RecordBatch) -> dict[str, float]:
    """Of each domain over these readings: as read, or from its counter where the meter has only that."""
    texts = readings["device_uuid"].dictionary_encode()
    codes, domains = texts.indices.to_numpy(), texts.dictionary.to_pylist()
    watts, counter_j = (readings[name].to_numpy(zero_copy_only=False) for name in ("power_w", "energy_counter_j"))
    known = ~np.isnan(watts)
    count = np.bincount(codes[known], minlength=len(domains))
    total = np.bincount(codes[known], weights=watts[known], minlength=len(domains))
    found = {domain: float(total[code] / count[code]) for code, domain in enumerate(domains) if count[code]}
    time_s = 1e-9 * readings["time_ns"].to_numpy()
    for code, domain in enumerate(domains):
        if domain not in found and len(told := np.flatnonzero((codes == code) & ~np.isnan(counter_j))) > 1:
            joules, seconds = (values[told[-1]] - values[told[0]] for values in (counter_j, time_s))
            if joules >= 0 and seconds > 0:  # else its counter was reset
                found[domain] = float(joules / seconds)
    return found
