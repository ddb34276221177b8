"""A session's begin: before its first trial the meters' clocks are compared, idle power is read, and both are saved."""

from datetime import UTC, datetime

from joulelaw.bench.dataset import Dataset
from joulelaw.bench.idle import IdleByDomain, measure_idle
from joulelaw.bench.meters_table import meter_rows
from joulelaw.bench.power_feed import PowerFeed


def begin_session(feed: PowerFeed, dataset: Dataset, idle_s: float) -> IdleByDomain:
    """The idle power of every domain of every node, measured for `idle_s` seconds; saved with the meters."""
    started_at = datetime.now(UTC)
    offsets = feed.clock_offsets()
    idle = measure_idle(feed, idle_s)
    dataset.save_meters(meter_rows(feed.meters, idle, offsets, started_at))
    return idle
