"""A study's loop on ranks in real time: windows go on until their energy is known, warmth and cold are waited for."""

import itertools
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from joulelaw.bench.dataset.dataset import Dataset
from joulelaw.bench.spec.configuration import Window
from joulelaw.bench.spec.schema import LimitsSection, MeteringSection
from joulelaw.bench.study.loop import StudyLoop
from joulelaw.bench.study.progress import StudyProgress
from joulelaw.cluster.power.meter import MeterKind, Reading
from joulelaw.cluster.power.sensor import Sensor
from joulelaw.cluster.ranks.gang import GangState
from tests.bench.fake_fleet import DEVICES, NODE, planned
from tests.bench.playing_fleet import LivingGang, PlayingFleet

TICK_S = 0.1


class TickingFleet(PlayingFleet):
    """Its counters move on every 100 ms: the edges of a window leave a part of its joules in doubt."""

    def _reading(self, domain: str, time_ns: int) -> Reading:
        told = super()._reading(domain, time_ns - time_ns % round(TICK_S * 1e9))
        return replace(told, time_ns=time_ns, power_w=None)


def run(fleet: PlayingFleet, folder: Path, window: Window, metering: MeteringSection | None = None) -> dict[str, Any]:
    one = planned()
    trial = replace(one, spec=replace(one.spec, window=window))
    dataset = Dataset.create(folder / "out", sweep="", plan={}, environment={})
    asked = metering or MeteringSection(idle_s=0)
    loop = StudyLoop([trial], dataset, fleet, LimitsSection(), StudyProgress(1, 1.0, 0), folder, asked)
    loop.run()
    (row,) = loop.rows
    return row


def words(gang: LivingGang) -> list[str]:
    return [message["kind"] for message in gang.told]


def test_a_window_goes_on_until_its_energy_is_known_and_its_row_says_how_well(tmp_path: Path) -> None:
    """Ticks of 100 ms leave 2 % of 2 s in doubt: a tolerance of 1 % takes longer, and the row keeps it."""
    gang = LivingGang(1, 1.5, 30)
    window = Window(0, 5, 1.5, 30, tolerance=0.015)
    row = run(TickingFleet([gang]), tmp_path, window)
    assert words(gang) == ["warm", "enough"] or words(gang) == ["enough"]
    assert 1.5 <= row["duration_s"] < 20
    assert 1.96 * row["energy_stderr_j"] <= 0.015 * row["energy_j"]
    assert abs(row["energy_j"] - 10 * row["duration_s"]) <= 4 * row["energy_stderr_j"]


@pytest.mark.parametrize(("tolerance", "kind"), [(None, "measured"), (0.01, "none"), (0.01, "estimated")])
def test_where_nothing_is_asked_or_nothing_meters_nothing_is_told(
    tolerance: float | None, kind: MeterKind, tmp_path: Path
) -> None:
    gang = LivingGang(1, 1.5, 2.5)
    run(PlayingFleet([gang], kind=kind), tmp_path, Window(0, 5, 1.5, 2.5, tolerance=tolerance))
    assert "enough" not in words(gang)
    assert gang.asked["trial"]["window"].get("tolerance") is None, "the ranks end at their minimum by themselves"


def test_steps_that_vary_are_a_reason_to_go_on(tmp_path: Path) -> None:
    gang = LivingGang(1, 1.2, 2.6)
    rng = random.Random(1)
    gang.step_times = itertools.cycle([rng.uniform(0.005, 0.08) for _ in range(500)])
    row = run(PlayingFleet([gang]), tmp_path, Window(0, 5, 1.2, 2.6, tolerance=0.01))
    assert "enough" not in words(gang)
    assert row["duration_s"] > 2.4


class WarmingFleet(PlayingFleet):
    """Its devices heat up by 3 degrees a second for a while, or cool down so while nothing runs."""

    def __init__(self, gangs: Sequence[LivingGang], begin_c: float, by_second: float, end_c: float) -> None:
        super().__init__(gangs)
        self._begin_c, self._by_second, self._end_c = begin_c, by_second, end_c

    def celsius(self, time_ns: int) -> float:
        moved_c = self._begin_c + self._by_second * 1e-9 * (time_ns - self._zero_ns)
        return max(self._end_c, moved_c) if self._by_second < 0 else min(self._end_c, moved_c)

    def _reading(self, domain: str, time_ns: int) -> Reading:
        return replace(super()._reading(domain, time_ns), temperature_c=self.celsius(time_ns))


def test_ranks_are_told_that_they_are_warm_once_the_temperature_has_settled(tmp_path: Path) -> None:
    """Three degrees a second up to 9 more: settled from the sixth second on."""
    gang = LivingGang(1, 7.5, 7.5)
    fleet = WarmingFleet([gang], 40.0, 3.0, 49.0)
    row = run(fleet, tmp_path, Window(0, 5, 7.5, 7.5))
    assert words(gang) == ["warm"]
    told_s = gang.told_s["warm"]
    assert told_s > 4.5, "not while it was rising"
    assert row["temperature_max_c"] == 49.0
    assert row["temperature_begin_c"] < 45


def test_devices_without_a_temperature_are_taken_for_warm(tmp_path: Path) -> None:
    gang = LivingGang(1, 4.0, 4.0)
    run(PlayingFleet([gang]), tmp_path, Window(0, 5, 4.0, 4.0))
    assert words(gang) == ["warm"]


def test_a_trial_begins_once_its_devices_are_cool(tmp_path: Path) -> None:
    gang = LivingGang()
    fleet = WarmingFleet([gang], 60.0, -5.0, 20.0)
    row = run(fleet, tmp_path, Window(0, 5, 1.5, 9), MeteringSection(idle_s=0, cooldown_c=50.0))
    assert fleet.celsius(row["window_begin_ns"]) < 50
    assert 1.5 < row["cooldown_s"] < 6
    assert row["temperature_begin_c"] < 50
    assert row["trial_s"] < row["cooldown_s"] + 6


@pytest.mark.parametrize(("metering", "least_s"), [({"cooldown_c": 30.0, "cooldown_max_s": 1.0}, 1.0), ({}, None)])
def test_a_trial_waits_no_longer_than_it_may(metering: dict[str, float], least_s: float | None, tmp_path: Path) -> None:
    fleet = WarmingFleet([LivingGang()], 60.0, -0.1, 20.0)
    row = run(fleet, tmp_path, Window(0, 5, 1.5, 9), MeteringSection(idle_s=0, **metering))
    if least_s is None:
        assert row["cooldown_s"] is None
    else:
        assert least_s <= row["cooldown_s"] < least_s + 3


def test_ranks_are_told_of_a_sensor_that_sees_only_part(tmp_path: Path) -> None:
    gang = LivingGang()
    sensors = {DEVICES[0].uuid: Sensor(power_update_s=0.1, power_averaged_s=0.025)}
    row = run(PlayingFleet([gang], sensors=sensors), tmp_path, Window(0, 5, 1.5, 9))
    assert gang.asked["sensor_update_s"] == 0.1
    assert row["jitter_s"] == LivingGang.JITTER_S


def test_a_process_that_is_not_the_trials_costs_it_one_more_attempt(tmp_path: Path) -> None:
    """At work in the first attempt and gone in the second: the second is kept, and valid."""

    class VisitedFleet(PlayingFleet):
        def _reading(self, domain: str, time_ns: int) -> Reading:
            visited = gangs[0].state is not GangState.DONE
            return replace(super()._reading(domain, time_ns), foreign_processes=int(visited), throttle=0x4)

    gangs = [LivingGang(), LivingGang()]
    fleet = VisitedFleet(gangs)
    assert fleet.meters[NODE].name == "nvml"
    row = run(fleet, tmp_path, Window(0, 5, 1.5, 9))
    assert (row["attempt"], row["verdict"], row["reasons"]) == (1, "valid", ["power_capped"])
