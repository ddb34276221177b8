"""The rows of the `meters` table: what read the power of a study's nodes in one session, and what it read at idle."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from joulelaw.bench.energy.idle import Idle, IdleByDomain
from joulelaw.cluster.power.sensor import Sensor
from joulelaw.cluster.streams.metering import ClockOffset, MeterInfo

ESTIMATE_IDLES = "idle at 0 W by construction: only the ranks' CPU time counts"


def meter_rows(
    meters: Mapping[str, MeterInfo],
    idle: IdleByDomain,
    offsets: Mapping[str, ClockOffset],
    started_at: datetime,
) -> list[dict[str, Any]]:
    """A row for each domain of each node, the study's devices first; null where nothing is known."""
    rows = []
    for node, meter in meters.items():
        roles = {**dict.fromkeys(meter.covers, "device"), **meter.surroundings}
        for domain, role in roles.items():
            sensor, at_idle = meter.sensors.get(domain, Sensor()), idle.get((node, domain), Idle())
            words = [meter.description.get(domain, ""), ESTIMATE_IDLES if meter.kind == "estimated" else ""]
            offset = offsets.get(node)
            rows.append(
                {
                    "node": node,
                    "domain": domain,
                    "role": role,
                    "meter": meter.name,
                    "meter_kind": meter.kind,
                    "boundary": meter.boundary,
                    "description": "; ".join(word for word in words if word),
                    "sensor_class": sensor.sensor_class,
                    "power_source": sensor.power_source,
                    "counter_tick_s": sensor.counter_tick_s,
                    "power_update_s": sensor.power_update_s,
                    "power_averaged_s": sensor.power_averaged_s,
                    "gain_bound": sensor.gain_bound,
                    "idle_w": at_idle.power_w,
                    "idle_stderr_w": at_idle.stderr_w,
                    "idle_temperature_c": at_idle.temperature_c,
                    "clock_offset_ns": offset and offset.offset_ns,
                    "clock_error_ns": offset and offset.error_ns,
                    "started_at": started_at,
                }
            )
    return rows
