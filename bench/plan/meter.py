"""The meter that a sweep would get on this machine: opened before anything is started or written, and told."""

from joulelaw import InputError
from joulelaw.bench.spec.sweep_file import Sweep
from joulelaw.bench.study.power_feed import meter_options
from joulelaw.cluster.nodes.inventory import Node
from joulelaw.cluster.power.meter import open_meter
from joulelaw.cluster.streams.metering import MeterInfo

_KEYS = {"kind": "meter"}
NO_JOULES = (
    "No joules will be read, so no trial will be valid: see joulelaw doctor for meters; without one, "
    "metering.cpu_w_per_core in the sweep estimates joules from CPU time"
)


def local_meter(sweep: Sweep, node: Node) -> MeterInfo:
    """What the sweep's meter says of itself, opened on this node and closed again.

    Raises:
        InputError: with the sweep's line, where the meter asked for cannot be had here.
    """
    try:
        meter = open_meter(node.devices, meter_options(sweep.metering))
    except InputError as error:
        section, _, option = error.where.partition(" ")[0].partition(".")
        if section != "meter":
            raise  # a recording's own file and row say more
        where = sweep.file.where(("metering", _KEYS.get(option, option)))
        raise InputError(error.what, where=where, remedy=error.remedy) from None
    try:
        return MeterInfo.of(meter)
    finally:
        meter.close()
