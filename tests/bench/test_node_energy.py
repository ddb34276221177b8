"""Idle power, net energy and what the node drew besides: against a node whose every domain draws a known power."""

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from joulelaw.bench.dataset.dataset import Dataset, read_events, read_meters
from joulelaw.bench.energy.idle import NOTHING, Idle
from joulelaw.bench.spec.schema import LimitsSection, MeteringSection
from joulelaw.bench.study.loop import StudyLoop
from joulelaw.bench.study.progress import StudyProgress
from joulelaw.bench.study.session import Session
from joulelaw.cluster.power.meter import MeterKind, Surrounding
from joulelaw.cluster.power.sensor import Sensor
from joulelaw.cluster.ranks.gang import RankGang
from joulelaw.cluster.streams.metering import READINGS, ClockOffset
from tests.bench.fake_fleet import DEVICES, NODE, planned
from tests.bench.playing_fleet import LivingGang, PlayingFleet

A, B = (device.uuid for device in DEVICES)
WATTS = {A: 40.0, B: 15.0, "GPU-beside": 25.0, "package-0": 60.0, "dram-0": 7.0}
ROLES: Mapping[str, Surrounding] = {"GPU-beside": "gpu", "package-0": "cpu", "dram-0": "dram"}


def loop_of(fleet: PlayingFleet, folder: Path, repeats: int = 1, idle_s: float = 0.0) -> StudyLoop:
    dataset = Dataset.create(folder, sweep="", plan={}, environment={})
    one = planned()
    trials = [replace(one, spec=replace(one.spec, repeat=repeat)) for repeat in range(repeats)]
    metering = MeteringSection(idle_s=idle_s)
    return StudyLoop(trials, dataset, fleet, LimitsSection(), StudyProgress(1, 1.0, 0), folder, metering)


class FleetThatWakes(PlayingFleet):
    """Everything draws five times as much from the first trial on. Its counters go on from there."""

    def acquire(
        self,
        model: str,
        count: int,
        node_count: int = 1,
        nodes: Sequence[str] | None = None,
        avoid: Collection[str] = (),
    ) -> RankGang:
        self.drain_power()
        self.watts = {domain: 5 * watts for domain, watts in self.watts.items()}
        return super().acquire(model, count, node_count, nodes, avoid)


def test_what_a_node_draws_is_the_trials_the_others_and_the_hosts(tmp_path: Path) -> None:
    loop = loop_of(PlayingFleet([LivingGang()], WATTS, ROLES), tmp_path / "out")
    loop.run()
    (row,) = loop.rows
    seconds = row["duration_s"]
    assert (row["verdict"], row["attempt"]) == ("valid", 0)
    assert row["energy_j"] == pytest.approx(40 * seconds, rel=0.01)
    assert row["energy_others_j"] == pytest.approx((15 + 25) * seconds, rel=0.01)
    assert row["host_cpu_j"] == pytest.approx(60 * seconds, rel=0.01)
    assert row["host_dram_j"] == pytest.approx(7 * seconds, rel=0.01)
    everything = sum(row[name] for name in ("energy_j", "energy_others_j", "host_cpu_j", "host_dram_j"))
    assert everything == pytest.approx(sum(WATTS.values()) * seconds, rel=0.01)


def test_devices_that_another_trial_holds_are_its_own_and_nobodys_other(tmp_path: Path) -> None:
    """Two trials side by side: what both are given, and the others once, is the node's total."""
    fleet = PlayingFleet([LivingGang(), LivingGang()], WATTS, ROLES)
    fleet.free_by_model = lambda: {DEVICES[0].model: {NODE: 2 - len(loop._running)}}  # type: ignore[method-assign]
    fleet._gangs[1].devices = DEVICES[1:]
    loop = loop_of(fleet, tmp_path / "out", repeats=2)
    loop.run()
    rows = {row["device_uuids"][0]: row for row in loop.rows}
    assert all(row["shared_with"] for row in rows.values())
    for uuid, row in rows.items():
        assert row["energy_j"] == pytest.approx(WATTS[uuid] * row["duration_s"], rel=0.01)
        assert row["energy_others_j"] == pytest.approx(25 * row["duration_s"], rel=0.01)
        assert row["host_cpu_j"] == pytest.approx(60 * row["duration_s"], rel=0.01)


def test_net_energy_is_gross_less_the_idle_power_before_the_first_trial(tmp_path: Path) -> None:
    idle_w = {domain: watts / 5 for domain, watts in WATTS.items()}
    sensors = {A: Sensor(sensor_class="a100", gain_bound=0.05, counter_tick_s=0.02), B: Sensor(gain_bound=0.2)}
    fleet = FleetThatWakes([LivingGang()], idle_w, ROLES, sensors)
    fleet.conditions = {"temperature_c": 33.0}
    loop = loop_of(fleet, tmp_path / "out", idle_s=1.0)
    loop.run()
    (row,) = loop.rows
    assert row["energy_net_j"] == pytest.approx((40 - 8) * row["duration_s"], rel=0.01)
    assert row["energy_systematic"] == 0.05, "of its own device"
    meters = read_meters(tmp_path / "out").set_index("domain")
    assert dict(meters["role"]) == {A: "device", B: "device", **ROLES}
    assert dict(meters["idle_w"]) == pytest.approx(idle_w, rel=0.01)
    assert (meters.loc[A, "sensor_class"], meters.loc[A, "counter_tick_s"]) == ("a100", 0.02)
    assert set(meters["idle_temperature_c"]) == {33.0}
    assert set(meters["clock_offset_ns"]) == {0}


def test_without_an_idle_phase_net_energy_is_unknown_and_the_meters_are_told_all_the_same(tmp_path: Path) -> None:
    loop = loop_of(PlayingFleet([LivingGang()]), tmp_path / "out")
    loop.run()
    (row,) = loop.rows
    assert row["energy_j"] is not None
    assert row["energy_net_j"] is None
    assert row["energy_systematic"] is None
    meters = read_meters(tmp_path / "out")
    assert list(meters["domain"]) == [A, B]
    assert meters["idle_w"].isna().all()


@pytest.mark.parametrize(
    ("kind", "idle"),
    [("estimated", {(NODE, A): NOTHING, (NODE, B): NOTHING}), ("replayed", {}), ("none", {})],
)
def test_only_a_meter_that_measures_is_waited_for(
    kind: MeterKind, idle: dict[tuple[str, str], Idle], tmp_path: Path
) -> None:
    dataset = Dataset.create(tmp_path / "out", sweep="", plan={}, environment={})
    session = Session(PlayingFleet(kind=kind), dataset, 5.0)
    session.hand_out(())
    assert session.ready == {NODE}
    assert session.idle == idle


def test_lost_samplers_and_dropped_readings_are_events_each_once(tmp_path: Path) -> None:
    fleet, dataset = PlayingFleet(), Dataset.create(tmp_path / "out", sweep="", plan={}, environment={})
    session = Session(fleet, dataset, 0.0)
    for losses, dropped in ((0, 0), (0, 160), (1, 160), (1, 200)):
        fleet.meter_losses[NODE], fleet.power_dropped[NODE] = losses, dropped
        session.hand_out(())
        session.hand_out(())
    dataset.close()
    events = read_events(tmp_path / "out")
    assert list(events["kind"]) == ["readings_dropped", "sampler_lost", "readings_dropped"]
    assert [detail.partition(" ")[0] for detail in events["detail"]] == ["160", "", "40"]


class GrowingFleet(PlayingFleet):
    """A second node like the first joins when `join` is called; its clock, another, is known two turns later."""

    LATE, AHEAD_NS = "late", 5 * 10**15

    def join(self) -> None:
        self.meter_losses = self.power_dropped = {NODE: 0, self.LATE: 0}
        self.meters = {**self.meters, self.LATE: self.meters[NODE]}
        self.power_drained = {NODE: 0.0, self.LATE: 0.0}
        self.looks = 0

    def drain_power(self, nodes: Collection[str] | None = None) -> dict[str, pa.RecordBatch]:
        drained = super().drain_power(nodes)
        self.power_drained = dict.fromkeys(self.meters, time.monotonic())
        if self.LATE in self.meters:
            rows = drained[NODE].to_pylist()
            moved = [{**row, "time_ns": row["time_ns"] + self.AHEAD_NS} for row in rows]
            drained[self.LATE] = pa.RecordBatch.from_pylist(moved, schema=READINGS)
        return drained

    @property
    def power_drained_s(self) -> Mapping[str, float]:
        return self.power_drained

    def clock_offsets(self) -> Mapping[str, ClockOffset]:
        known = dict(super().clock_offsets())
        if self.LATE in self.meters:
            self.looks += 1
            if self.looks > 2:
                known[self.LATE] = ClockOffset(self.AHEAD_NS, 1000)
        return known


def test_a_node_that_joins_is_made_ready_on_its_own_clock_beside_those_at_work(tmp_path: Path) -> None:
    dataset = Dataset.create(tmp_path / "out", sweep="", plan={}, environment={})
    fleet = GrowingFleet(watts=WATTS, roles=ROLES)
    session = Session(fleet, dataset, 0.4)
    while not session.ready:
        session.hand_out(())
        time.sleep(0.05)
    assert session.ready == {NODE}
    fleet.watts = {domain: 3 * watts for domain, watts in WATTS.items()}  # a probe, say, before it joins
    time.sleep(0.3)
    fleet.join()
    fleet.drain_power()
    fleet.watts = WATTS
    longest_s = 0.0
    while session.ready == {NODE}:
        begin_s = time.monotonic()
        session.hand_out(())
        longest_s = max(longest_s, time.monotonic() - begin_s)
        time.sleep(0.05)
    assert longest_s < 0.4, "nobody waits for it"
    assert session.ready == {NODE, fleet.LATE}
    for node in session.ready:
        assert {domain: session.idle[node, domain].power_w for domain in WATTS} == pytest.approx(WATTS, rel=0.01)
    meters = read_meters(tmp_path / "out").set_index(["node", "domain"])
    assert len(meters) == 2 * len(WATTS)
    assert meters.loc[(fleet.LATE, A), "clock_offset_ns"] == fleet.AHEAD_NS
    assert meters["started_at"].nunique() == 1, "one session"
