"""A probed device's entry for the catalogue. Apart from the probe, so that the driver need not load torch."""

import datetime
from collections.abc import Mapping
from typing import Any

from joulelaw.model.hardware import DeviceSpec


def device_spec(
    probe: Mapping[str, Any], name: str, memory_bytes: int, power_limit_w: float | None, date: datetime.date, kind: str
) -> DeviceSpec:
    """The catalogue entry of a probed device. Without a measured link, the link is the device's own memory."""
    link = probe["link_bytes_per_s"]
    return DeviceSpec(
        name=name,
        peak_flop_per_s=dict(probe["peak_flop_per_s"]),
        bandwidth_bytes_per_s=probe["bandwidth_bytes_per_s"],
        memory_bytes=memory_bytes,
        link=f"{probe['link']}, measured" if link else "none: one device",
        link_bytes_per_s=link or probe["bandwidth_bytes_per_s"],
        source=f"measured here, {date.isoformat()}",
        date=date,
        power_limit_w=power_limit_w,
        note="fastest matrix product, copy and all-gather of this machine, not a data sheet's peaks",
        kind=kind,
    )
