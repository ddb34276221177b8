"""RAPL against a fabricated /sys: joules, wrap-around, resets, packages and their cores, and what cannot be read."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest

from joulelaw.cluster.power import rapl_zones
from joulelaw.cluster.power.meter import MeterUnavailableError
from joulelaw.cluster.power.rapl import open_rapl
from tests.cluster.power.sysfs import Machine


@dataclass(frozen=True)
class Cpu:
    uuid: str
    cores: tuple[int, ...]
    kind: Literal["cuda", "cpu"] = "cpu"


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_microjoules_become_joules_from_the_first_reading_on(machine: Machine) -> None:
    machine.cores([0, 0])
    machine.zone("intel-rapl:0", "package-0", 5_000_000, 262_143_328_850)
    meter = open_rapl([Cpu("a", (0,)), Cpu("b", (1,))], machine.root)
    assert meter.read()[0].energy_counter_j == 0
    machine.zone("intel-rapl:0", "package-0", 7_500_000, 262_143_328_850)
    (reading,) = meter.read()
    assert reading.energy_counter_j == 2.5
    assert reading.device_uuid == "package-0"
    assert reading.power_w is None
    assert (meter.name, meter.kind, meter.boundary) == ("rapl", "measured", "cpu_package")


def test_a_counter_that_wraps_goes_on_rising(machine: Machine) -> None:
    """Over the values 0 to 999 999: from 900 000 by 1.7 J in steps of at most 0.5 J, across two wraps."""
    machine.cores([0])
    machine.zone("intel-rapl:0", "package-0", 900_000, 999_999)
    meter = open_rapl([Cpu("a", (0,))], machine.root)
    total = 0
    for step_uj in (50_000, 300_000, 450_000, 500_000, 400_000):
        total += step_uj
        machine.zone("intel-rapl:0", "package-0", (900_000 + total) % 1_000_000, 999_999)
        assert meter.read()[0].energy_counter_j == pytest.approx(total / 1e6, abs=1e-9)


def test_a_fall_that_no_package_could_draw_is_a_reset_and_not_kilojoules(machine: Machine) -> None:
    machine.cores([0])
    machine.zone("intel-rapl:0", "package-0", 1_000_000, 262_143_328_850)
    meter = open_rapl([Cpu("a", (0,))], machine.root)
    machine.zone("intel-rapl:0", "package-0", 9_000_000, 262_143_328_850)
    before = meter.read()[0].energy_counter_j
    machine.zone("intel-rapl:0", "package-0", 0, 262_143_328_850)
    after = meter.read()[0].energy_counter_j
    assert (before, after) == (8.0, 0.0)


def test_packages_cover_the_devices_on_their_cores(machine: Machine) -> None:
    """Two sockets, the second of two dies; a device over both; zones that are no package, or one seen twice."""
    machine.cores([0, 0, 1, 1])
    machine.zone("intel-rapl:0", "package-0", 0)
    machine.zone("intel-rapl:0:0", "core", 700_000)
    machine.zone("intel-rapl:1", "package-1-die-0", 100)
    machine.zone("intel-rapl:2", "package-1-die-1", 200)
    machine.zone("intel-rapl:3", "psys", 0)
    machine.zone("intel-rapl-mmio:0", "package-0", 0)
    devices = [Cpu("a", (0,)), Cpu("b", (1, 2)), Cpu("c", (3,))]
    meter = open_rapl(devices, machine.root)
    assert meter.covers == {"package-0": ("a", "b"), "package-1": ("b", "c")}
    assert meter.device_uuids == ("a", "b", "c")
    for folder, name, energy_uj in (
        ("intel-rapl:1", "package-1-die-0", 300_100),
        ("intel-rapl-mmio:0", "package-0", 9),
    ):
        machine.zone(folder, name, energy_uj)
    machine.zone("intel-rapl:2", "package-1-die-1", 400_200)
    assert [reading.energy_counter_j for reading in meter.read()] == [0.0, pytest.approx(0.7)]


def test_packages_without_devices_and_memory_are_read_beside_the_others(machine: Machine) -> None:
    """But not a package of which one die cannot be read: it would be less than it is."""
    machine.cores([0, 1])
    machine.zone("intel-rapl:0", "package-0", 0)
    machine.zone("intel-rapl:0:0", "core", 0)
    machine.zone("intel-rapl:0:1", "dram", 0)
    machine.zone("intel-rapl:1", "package-1", 0)
    machine.zone("intel-rapl:1:0", "dram", 0)
    machine.zone("intel-rapl:2", "package-2-die-0", 0)
    machine.zone("intel-rapl:3", "package-2-die-1", 0)
    machine.zone("intel-rapl-mmio:0", "package-0", 0)
    meter = open_rapl([Cpu("b", (1,))], machine.root)
    assert list(meter.covers) == ["package-1"]
    beside = {"package-0": "cpu", "package-2": "cpu", "dram-0": "dram", "dram-1": "dram"}
    assert meter.surroundings == beside
    machine.zone("intel-rapl:0:1", "dram", 500_000)
    machine.zone("intel-rapl:3", "package-2-die-1", 250_000)
    counters = {reading.device_uuid: reading.energy_counter_j for reading in meter.read()}
    assert counters == {"package-1": 0, "package-0": 0, "package-2": 0.25, "dram-0": 0.5, "dram-1": 0}
    assert {sensor.counter_tick_s for sensor in meter.sensors.values()} == {1e-3}
    (machine.root / "class/powercap/intel-rapl:3/max_energy_range_uj").unlink()
    kinds = rapl_zones.open_host(machine.root).kinds
    assert kinds == {"package-0": "cpu", "package-1": "cpu", "dram-0": "dram", "dram-1": "dram"}


def test_without_counters_there_is_nothing_beside(machine: Machine) -> None:
    host = rapl_zones.open_host(machine.root)
    assert (host.kinds, host.description, host.read()) == ({}, {}, [])


def test_a_counter_that_stops_answering_is_an_error(machine: Machine) -> None:
    machine.cores([0])
    machine.zone("intel-rapl:0", "package-0", 10)
    meter = open_rapl([Cpu("a", (0,))], machine.root)
    (machine.root / "class/powercap/intel-rapl:0/energy_uj").unlink()
    (reading,) = meter.read()
    assert reading.energy_counter_j is None
    assert "energy_uj" in reading.error


def test_a_counter_only_root_may_read_names_the_remedy(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.cores([0])
    machine.zone("intel-rapl:0", "package-0", 10)
    if os.geteuid() == 0:  # root reads whatever the mode says
        read = Path.read_text

        def guarded(path: Path, *arguments: Any, **keywords: Any) -> str:
            if path.name == "energy_uj":
                raise PermissionError(13, "Permission denied", str(path))
            return read(path, *arguments, **keywords)

        monkeypatch.setattr(Path, "read_text", guarded)
    else:
        (machine.root / "class/powercap/intel-rapl:0/energy_uj").chmod(0o200)
    with pytest.raises(MeterUnavailableError, match=r"may not read .*energy_uj") as caught:
        open_rapl([Cpu("a", (0,))], machine.root)
    assert "sudo chmod a+r" in caught.value.remedy


@pytest.mark.parametrize("with_other_zone", [False, True])
def test_a_machine_without_package_counters_is_refused(machine: Machine, with_other_zone: bool) -> None:
    machine.cores([0])
    if with_other_zone:
        machine.zone("intel-rapl:0", "psys", 10)
    with pytest.raises(MeterUnavailableError, match="no RAPL counter"):
        open_rapl([Cpu("a", (0,))], machine.root)


def test_a_package_whose_counter_is_missing_is_refused(machine: Machine) -> None:
    machine.cores([0, 1])
    machine.zone("intel-rapl:0", "package-0", 10)
    with pytest.raises(MeterUnavailableError, match="no RAPL counter for package-1"):
        open_rapl([Cpu("a", (0,)), Cpu("b", (1,))], machine.root)


def test_the_place_is_linuxs_own() -> None:
    assert Path("/sys") == rapl_zones.SYS


@pytest.mark.parametrize(
    "hidden",
    ["class/powercap/intel-rapl:0/max_energy_range_uj", "devices/system/cpu/cpu0/topology/physical_package_id"],
)
def test_counters_of_a_sys_that_is_shown_in_part_are_refused(machine: Machine, hidden: str) -> None:
    """Containers mask what they please; where a meter is chosen automatically, the next one is then tried."""
    machine.cores([0])
    machine.zone("intel-rapl:0", "package-0", 10)
    (machine.root / hidden).unlink()
    with pytest.raises(MeterUnavailableError, match=Path(hidden).name) as caught:
        open_rapl([Cpu("a", (0,))], machine.root)
    assert "estimate" in caught.value.remedy
