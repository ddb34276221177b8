"""A live training's row in the `trials` table, and its rows in the others."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa

from joulelaw.bench.known import largest
from joulelaw.bench.live.measured import Measured
from joulelaw.bench.spec.configuration import Configuration
from joulelaw.bench.trial.end import one_meter
from joulelaw.bench.trial.row import COLUMNS

# What stands in the column `data`: texts of a user's, which have no place in a dataset.
DATA = "training"


@dataclass(frozen=True)
class Around:
    """What the row says beside the measurement: when the training began, how long it took, and on what."""

    started_at: datetime
    training_s: float
    began_ns: int
    threads: int
    backend: str
    link: str | None = None


def row_of(measured: Measured, configuration: Configuration, around: Around) -> dict[str, Any]:
    """The row of TRIALS without its key. What nothing told is null, never 0."""
    energy, conditions, verdict = measured.energy, measured.conditions, measured.verdict
    meter = one_meter([node.meter for node in measured.nodes])
    devices = [device for node in measured.nodes for device in node.devices]
    limits = {device.power_limit_w for device in devices}
    first = measured.windows[0]
    losses = [each.loss for each in first if each.loss is not None and math.isfinite(each.loss)]
    row: dict[str, Any] = dict.fromkeys(COLUMNS)
    row |= {name: value for name, value in configuration.to_dict().items() if name in row}
    return row | {
        "configuration_id": configuration.configuration_id,
        "case_id": configuration.case_id,
        "repeat": 0,
        "seed": 0,
        "data": DATA,
        "status": "done",
        "failure": "",
        "micro_steps": measured.micro_steps,
        "duration_s": measured.duration_s,
        "energy_j": energy.energy_j,
        "energy_trace_j": energy.trace_j,
        "energy_disagreement": energy.disagreement,
        "energy_stderr_j": energy.stderr_j,
        "energy_systematic": _systematic(measured),
        "boundary": meter.boundary,
        "meter": meter.name,
        "meter_kind": meter.kind,
        "verdict": verdict.text,
        "reasons": verdict.codes,
        "warmup_steps": first[0].step,
        "warmup_s": 1e-9 * (first[0].begin_ns - around.began_ns),
        "jitter_s": 0.0,
        "measured_steps": measured.steps,
        "skipped_steps": measured.skipped_steps,
        "padded_tokens": measured.padded_tokens,
        "step_s_median": measured.step_s_median,
        "window_begin_ns": first[0].begin_ns,
        "window_end_ns": first[-1].end_ns,
        "started_at": around.started_at,
        "trial_s": around.training_s,
        "loss_first": losses[0] if losses else None,
        "loss_last": losses[-1] if losses else None,
        "peak_memory_bytes": largest(part.peak_memory_bytes for part in measured.ranks),
        "nodes": [node.host for node in measured.nodes],
        "device_uuids": [device.uuid for device in devices],
        "threads_per_rank": around.threads,
        "backend": around.backend,
        "shared_with": [],
        "power_limit_w": limits.pop() if len(limits) == 1 else None,
        "temperature_begin_c": conditions.temperature_begin_c,
        "temperature_max_c": conditions.temperature_max_c,
        "clock_mhz_mean": conditions.clock_mhz_mean,
        "driver": "+".join(sorted({device.driver for device in devices} - {""})) or None,
        "link": around.link,
    }


def _systematic(measured: Measured) -> float | None:
    sensors = [
        node.meter.sensors.get(domain)
        for node in measured.nodes
        for domain, covered in node.meter.covers.items()
        if set(covered) & {device.uuid for device in node.devices}
    ]
    return largest(None if sensor is None else sensor.gain_bound for sensor in sensors)


def step_rows(measured: Measured) -> Iterator[dict[str, Any]]:
    """Rows of STEPS without its key: of the window, and of the steps around it that nothing came between."""
    chosen = measured.chosen
    for rank, records in enumerate(measured.kept):
        for at, each in enumerate(records):
            yield {
                "rank": rank,
                "step": each.step,
                "measured": chosen.first <= at < chosen.end,
                "begin_ns": each.begin_ns,
                "end_ns": each.end_ns,
                "loss": each.loss,
            }


def power_of(sent: bytes) -> pa.Table:
    """The readings of a node as they came from it."""
    return pa.ipc.open_stream(sent).read_all()


def power_bytes(readings: pa.Table) -> bytes:
    """As they travel to the first rank."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, readings.schema) as stream:
        stream.write_table(readings)
    sent: bytes = sink.getvalue().to_pybytes()
    return sent
