"""Conditions of a window: of its own devices, inside its own edges, each device counted once."""

import pyarrow as pa

from joulelaw.bench.dataset.tables import POWER
from joulelaw.bench.trial.conditions import NO_CONDITIONS, Conditions, conditions_of, together

BEGIN_NS, END_NS = 1_000, 2_000


def readings(*rows: dict[str, object]) -> pa.Table:
    nothing = dict.fromkeys(POWER.names)
    return pa.Table.from_pylist([{**nothing, "device_uuid": "A", "error": "", **row} for row in rows], schema=POWER)


def test_what_came_before_after_or_on_another_device_does_not_count() -> None:
    table = readings(
        {"time_ns": 999, "foreign_processes": 3, "throttle": 0x40},
        {"time_ns": 1_500, "foreign_processes": 0, "throttle": 0x4},
        {"time_ns": 1_600, "device_uuid": "B", "foreign_processes": 5, "throttle": 0x20},
        {"time_ns": 2_001, "foreign_processes": 2, "throttle": 0x8},
    )
    found = conditions_of([table], ["A"], BEGIN_NS, END_NS)
    assert (found.foreign_processes, found.throttle) == (0, 0x4)
    assert conditions_of([table], ["B"], BEGIN_NS, END_NS).foreign_processes == 5


def test_every_bit_seen_is_kept_and_the_most_processes() -> None:
    parts = [
        readings({"time_ns": 1_100, "throttle": 0x4}, {"time_ns": 1_200, "foreign_processes": 1}),
        readings({"time_ns": 1_300, "throttle": 0x20, "foreign_processes": 2}, {"time_ns": 1_400}),
    ]
    found = conditions_of(parts, ["A"], BEGIN_NS, END_NS)
    assert (found.foreign_processes, found.throttle) == (2, 0x24)


def test_the_temperature_at_the_begin_is_the_last_one_before_it_of_the_warmest_device() -> None:
    table = readings(
        {"time_ns": 800, "temperature_c": 70.0},
        {"time_ns": 900, "temperature_c": 40.0},
        {"time_ns": 950},
        {"time_ns": 900, "device_uuid": "B", "temperature_c": 45.0},
        {"time_ns": 1_500, "temperature_c": 61.0},
        {"time_ns": 1_500, "device_uuid": "B", "temperature_c": 60.0},
    )
    found = conditions_of([table], ["A", "B"], BEGIN_NS, END_NS)
    assert (found.temperature_begin_c, found.temperature_max_c) == (45.0, 61.0)


def test_a_device_that_was_not_read_before_counts_from_its_first_reading() -> None:
    table = readings({"time_ns": 1_200, "temperature_c": 44.0}, {"time_ns": 1_300, "temperature_c": 61.0})
    assert conditions_of([table], ["A"], BEGIN_NS, END_NS).temperature_begin_c == 44.0


def test_each_device_counts_once_in_the_mean_clock() -> None:
    rows = [{"time_ns": 1_100 + k, "clock_mhz": 1_000.0} for k in range(9)]
    table = readings(*rows, {"time_ns": 1_100, "device_uuid": "B", "clock_mhz": 2_000.0}, {"time_ns": 1_200})
    assert conditions_of([table], ["A", "B"], BEGIN_NS, END_NS).clock_mhz_mean == 1_500.0


def test_nothing_read_is_nothing_known() -> None:
    assert conditions_of([], ["A"], BEGIN_NS, END_NS) == NO_CONDITIONS
    assert conditions_of([readings({"time_ns": 1_500})], ["A"], BEGIN_NS, END_NS) == NO_CONDITIONS


def test_nodes_together() -> None:
    one, other = Conditions(0, 0x4, 40.0, 60.0, 1_000.0), Conditions(2, 0x20, 50.0, None, 1_200.0)
    assert together([one, other]) == Conditions(2, 0x24, 50.0, 60.0, 1_100.0)
    assert together([]) == NO_CONDITIONS
