"""The end of a live training: its processes agree on one window, and the first of them gets what all have seen of it.

every rank      its steps                                -> the first rank
first rank      chooses the window                       -> the first rank of each node
those           joules of it, readings around it         -> the first rank
"""

from typing import NamedTuple

from joulelaw.bench.known import total
from joulelaw.bench.live.joules import LiveMeter
from joulelaw.bench.live.measured import Measured, NodePart, RankPart
from joulelaw.bench.live.ranks import Company, Ranks
from joulelaw.bench.live.row import power_bytes
from joulelaw.bench.live.window import Warmup, chosen_window, together
from joulelaw.cluster.streams.metering import MeterInfo

Windows = dict[str, tuple[int, int]]  # by host, in ns of its CLOCK_MONOTONIC


class Ended(NamedTuple):
    """What the first rank has: the window, None where no step was steady, and the joules of the whole training."""

    measured: Measured | None
    energy_j: float | None


def conclude(
    ranks: Ranks, company: Company, meter: LiveMeter | None, own: RankPart, began_ns: int, warmup: Warmup, max_s: float
) -> Ended | None:
    """The window and the joules as all processes have them, on the first rank; None on others.

    Raises:
        AbsentError: a process did not answer.
    """
    if company.rank:
        ranks.say("steps", own)
        if meter is not None:
            ranks.say("whole", meter.so_far().energy_j)
            (windows,) = ranks.hear("window", [0])
            if windows is not None:
                ranks.say("energy", _on_node(company, meter, windows))
        return None
    assert meter is not None
    others = [leader for leader in company.leaders if leader]
    parts: list[RankPart] = [own, *(ranks.hear("steps", range(1, ranks.size)) if ranks.size > 1 else [])]
    whole_j = total([meter.so_far().energy_j, *(ranks.hear("whole", others) if others else [])])
    kept = together([part.records for part in parts])
    chosen = chosen_window(kept[0], warmup, began_ns, max_s)
    windows = None
    if chosen is not None:
        edges = [(records[chosen.first].begin_ns, records[chosen.end - 1].end_ns) for records in kept]
        windows = {host: _around([edges[member.rank] for member in company.on(host)]) for host in company.hosts}
    ranks.say("window", windows)
    if chosen is None or windows is None:
        return Ended(None, whole_j)
    nodes = [_on_node(company, meter, windows), *(ranks.hear("energy", others) if others else [])]
    return Ended(Measured(parts, kept, chosen, nodes), whole_j)


def _around(edges: list[tuple[int, int]]) -> tuple[int, int]:
    """A node's window is from its first rank's begin to its last rank's end."""
    return min(begin for begin, _ in edges), max(end for _, end in edges)


def _on_node(company: Company, meter: LiveMeter, windows: Windows) -> NodePart:
    host = company.own.host
    begin_ns, end_ns = windows[host]
    energy, conditions = meter.energy(begin_ns, end_ns)
    sent = power_bytes(meter.readings(begin_ns, end_ns))
    return NodePart(host, MeterInfo.of(meter.meter), tuple(meter.devices), energy, conditions, sent)
