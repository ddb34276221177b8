"""Which meter is opened, and that no meter never means 0 J."""

import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from joulelaw import InputError
from joulelaw.cluster.power import nvml, rapl_zones
from joulelaw.cluster.power.meter import MeterOptions, MeterUnavailableError, open_meter


@dataclass(frozen=True)
class Device:
    uuid: str
    kind: Any = "cpu"
    cores: tuple[int, ...] = (0,)


DEVICES = [Device("CPU-h-0"), Device("CPU-h-1", cores=(1,))]


@pytest.fixture
def bare_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No GPU, no RAPL, whatever this machine has."""
    monkeypatch.setattr(nvml, "nvml_problem", lambda: "NVML: there is none")
    monkeypatch.setattr(rapl_zones, "SYS", tmp_path)


@pytest.mark.usefixtures("bare_machine")
def test_auto_estimates_where_a_wattage_is_stated() -> None:
    meter = open_meter(DEVICES, MeterOptions(cpu_w_per_core=4.0))
    assert (meter.name, meter.kind, meter.boundary) == ("cpu_time_estimate", "estimated", "cpu_modelled")
    assert meter.device_uuids == ("CPU-h-0", "CPU-h-1")


@pytest.mark.usefixtures("bare_machine")
def test_auto_with_nothing_to_meter_with_gives_errors_and_no_zeros() -> None:
    meter = open_meter(DEVICES, MeterOptions())
    assert (meter.name, meter.kind) == ("none", "none")
    readings = meter.read()
    assert [reading.device_uuid for reading in readings] == ["CPU-h-0", "CPU-h-1"]
    for reading in readings:
        assert reading.energy_counter_j is None
        assert reading.power_w is None
        assert "no RAPL counter" in reading.error
        assert "no wattage is stated" in reading.error


def test_no_metering_can_be_asked_for() -> None:
    (reading,) = open_meter(DEVICES[:1], MeterOptions(kind="none")).read()
    assert "switched off" in reading.error


@pytest.mark.usefixtures("bare_machine")
@pytest.mark.parametrize(
    ("kind", "device", "remedy"),
    [
        ("rapl", DEVICES[0], "cpu_w_per_core"),
        ("estimate", DEVICES[0], "cpu_w_per_core"),
        ("nvml", Device("GPU-a", "cuda"), "install the NVIDIA driver"),
        ("nvml", DEVICES[0], "choose 'rapl' or 'estimate'"),
        ("rapl", Device("GPU-a", "cuda"), "choose 'nvml'"),
        ("estimate", Device("GPU-a", "cuda"), "choose 'nvml'"),
    ],
)
def test_a_meter_asked_for_by_name_that_is_absent_is_refused_with_a_remedy(
    kind: Any, device: Device, remedy: str
) -> None:
    with pytest.raises(MeterUnavailableError) as caught:
        open_meter([device], MeterOptions(kind=kind))
    assert remedy in caught.value.remedy
    assert kind in caught.value.where
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


@pytest.mark.parametrize(
    ("values", "where"),
    [
        ({"kind": "nvlm"}, "meter.kind"),
        ({"rate_hz": 0.0}, "meter.rate_hz"),
        ({"rate_hz": float("nan")}, "meter.rate_hz"),
        ({"cpu_w_per_core": -1.0}, "meter.cpu_w_per_core"),
        ({"kind": "replay"}, "meter.replay_path"),
        ({"replay_path": "trace.csv"}, "meter.replay_path"),
    ],
)
def test_bad_options_name_themselves(values: dict[str, Any], where: str) -> None:
    with pytest.raises(InputError) as caught:
        MeterOptions(**values)
    assert caught.value.where == where
    assert caught.value.remedy
