"""A replayed recording gives each of its rows once, at its time, and refuses files that are no recording."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from joulelaw import InputError
from joulelaw.bench.energy.energy import window_energy
from joulelaw.bench.energy.readings import from_readings
from joulelaw.cluster.power.meter import MeterOptions, open_meter
from joulelaw.cluster.power.replay import open_replay


@dataclass(frozen=True)
class Device:
    uuid: str
    cores: tuple[int, ...] = ()
    kind: Literal["cuda", "cpu"] = "cuda"


class Clock:
    now_ns = 5_000_000_000

    def __call__(self) -> int:
        return self.now_ns


def write_csv(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_rows_come_once_when_due_with_their_own_times(tmp_path: Path) -> None:
    rows = "time_s,device,power_w,temperature_c\n100.0,x,50,40\n100.0,y,60,\n100.25,x,70,41\n101.0,x,90,42\n101.0,y,,\n"
    clock = Clock()
    meter = open_replay([Device("A"), Device("B")], write_csv(tmp_path / "t.csv", rows), clock)
    assert (meter.name, meter.kind, meter.boundary) == ("replay", "replayed", "gpu")
    first = meter.read()
    assert [(r.device_uuid, r.time_ns, r.power_w, r.temperature_c) for r in first] == [
        ("A", 5_000_000_000, 50, 40),
        ("B", 5_000_000_000, 60, None),
    ]
    assert meter.read() == []
    clock.now_ns += 1_500_000_000
    later = meter.read()
    assert [(r.device_uuid, r.time_ns, r.power_w) for r in later] == [
        ("A", 5_250_000_000, 70),
        ("A", 6_000_000_000, 90),
        ("B", 6_000_000_000, None),
    ]
    assert [r.error for r in later] == ["", "", "recorded without a value"]
    assert [r.error for r in meter.read()] == ["the recording has ended"] * 2


def test_a_parquet_recording_keeps_its_counter_and_boundary_and_its_joules(tmp_path: Path) -> None:
    """A constant 40 W, read at 10 Hz, replayed by UUID: 80 J over two seconds by counter and by trace."""
    time_s = [k / 10 for k in range(40)]
    rows: dict[str, list[Any]] = {
        "time_s": [at for at in time_s for _ in range(2)],
        "device": ["B", "A"] * 40,
        "power_w": [10.0, 40.0] * 40,
        "energy_counter_j": [watts * at for at in time_s for watts in (10.0, 40.0)],
        "boundary": ["cpu_package"] * 80,
    }
    pq.write_table(pa.table(rows), tmp_path / "t.parquet")
    clock = Clock()
    meter = open_replay([Device("A")], tmp_path / "t.parquet", clock)
    assert meter.boundary == "cpu_package"
    readings = []
    for _ in range(60):
        readings += meter.read()
        clock.now_ns += 70_000_000
    energy = window_energy(from_readings(readings)["A"], 6_000_000_000, 8_000_000_000)
    assert energy.counter_j == pytest.approx(80.0, abs=1e-6)
    assert energy.trace_j == pytest.approx(80.0, abs=1e-6)


def test_the_option_opens_a_replay(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "t.csv", "time_s,device,power_w\n0,x,50\n")
    meter = open_meter([Device("A")], MeterOptions(kind="replay", replay_path=str(path)))
    assert meter.read()[0].power_w == 50
    assert meter.description == {"A": "replay of t.csv"}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("time_s,device\n0,x\n", "no column power_w"),
        ("time_s,device,power_w\n", "empty"),
        ("time_s,device,power_w\n1,x,50\n0,x,50\n", "goes backwards"),
        ("time_s,device,power_w\n0,x,-1\n", "negative"),
        ("time_s,device,power_w\n0,x,lots\n", "power_w has 'lots'"),
        ("time_s,device,power_w\n0,x,inf\n", "power_w has inf"),
        ("time_s,device,power_w\n,x,1\n", "without time or device"),
        ("time_s,device,power_w,boundary\n0,x,1,gpu\n1,x,1,node\n", "several boundaries: gpu, node"),
        ("", "cannot be read"),
    ],
)
def test_a_bad_recording_is_refused_with_its_file(tmp_path: Path, text: str, told: str) -> None:
    path = write_csv(tmp_path / "t.csv", text)
    with pytest.raises(InputError, match=told) as caught:
        open_replay([Device("A")], path)
    assert str(path) in caught.value.where
    assert caught.value.remedy


def test_missing_files_other_endings_and_too_few_devices_are_refused(tmp_path: Path) -> None:
    good = write_csv(tmp_path / "t.csv", "time_s,device,power_w\n0,x,1\n")
    cases = {
        "cannot be read": (tmp_path / "none.csv", 1),
        "ends in .csv or .parquet": (tmp_path / "t.txt", 1),
        "1 recorded device": (good, 2),
    }
    for told, (path, count) in cases.items():
        with pytest.raises(InputError, match=told):
            open_replay([Device("A"), Device("B")][:count], path)
