"""`joulelaw meter` against joules known in closed form: edges on ticks, faults with their verdicts, slices, names."""

from pathlib import Path
from typing import Any

import pytest

from tests.bench.metering import Metered, command_line, window
from tests.fake_nvml.devices import FakeGpu

pytestmark = pytest.mark.xdist_group("fake_nvml")

BURSTS = ((3.0, 40.0), (160.0, 95.0), (420.0, 1.25))
# The first decides where the window begins and ends; the others tick at other times.
WAVES = [
    FakeGpu("GPU-slow", 80, 400, period_ms=700, duty=0.3, tick_phase_ms=61),
    FakeGpu("GPU-constant", 300, 300, tick_ms=20, tick_phase_ms=7),
    FakeGpu("GPU-fast", 80, 400, period_ms=37, duty=0.6, tick_phase_ms=13),
    FakeGpu("GPU-ramp", 80, 400, period_ms=1300, wave="ramp", tick_phase_ms=37, sensor="v100"),
    FakeGpu("GPU-burst", 80, 700, period_ms=500, wave="burst", bursts=BURSTS, tick_ms=50),
]


@pytest.fixture(scope="module")
def waves(tmp_path_factory: pytest.TempPathFactory) -> Metered:
    return window(WAVES, tmp_path_factory.mktemp("waves") / "power.parquet", seconds=2.5)


@pytest.mark.parametrize("gpu", WAVES, ids=lambda gpu: gpu.uuid)
def test_joules_are_those_of_the_window_that_is_told(waves: Metered, gpu: FakeGpu) -> None:
    """The first to what readings leave open of a tick's time; the others to that and the swing within one tick."""
    wait_s = waves.wait_s(gpu.uuid)
    allowed_j = gpu.high_w * wait_s + 1e-3
    if gpu is not WAVES[0]:
        allowed_j += (gpu.high_w - gpu.low_w) * gpu.tick_ms / 1e3 / 2
    device = waves.device(gpu.uuid)
    assert device["energy_j"] == pytest.approx(waves.true_j(gpu), abs=allowed_j)
    assert device["mean_power_w"] == pytest.approx(device["energy_j"] / waves.shown["duration_s"])
    assert device["source"] == "counter"


def test_edges_lie_on_ticks_of_the_first_device(waves: Metered) -> None:
    gpu, wait_s = WAVES[0], waves.wait_s("GPU-slow")
    for edge_ns in (waves.shown["begin_ns"], waves.shown["end_ns"]):
        edge_s = (edge_ns - waves.shown["origin_ns"]) / 1e9
        assert edge_s == pytest.approx(gpu.last_tick_s(edge_s + wait_s), abs=wait_s)
    late_s = (waves.shown["end_ns"] - waves.shown["asked_ns"]) / 1e9
    assert 0 <= late_s < 0.2, "the first tick after the end that was asked for"


def test_a_good_window_is_valid_and_its_parts_make_the_sum(waves: Metered) -> None:
    if max(waves.wait_s(gpu.uuid) for gpu in WAVES) < 0.01:  # a busy machine may hold the sampler up, which is told
        good = [each for each in waves.shown["devices"] if each["verdict"] == "valid"]
        assert {each["uuid"] for each in good} >= {"GPU-slow", "GPU-constant"}
    parts = [*waves.shown["devices"], *waves.shown["surroundings"]]
    assert waves.shown["node_total_j"] == pytest.approx(sum(each["energy_j"] for each in parts))


def test_metering_loads_neither_torch_nor_ray(waves: Metered) -> None:
    assert not {"torch", "ray", "transformers"} & set(waves.shown["modules"])


# Faults begin 2 s after the waveforms, which is within the window: it opens about 1 s after they do.
FAULTS: dict[str, tuple[dict[str, Any], set[str]]] = {
    "GPU-good": ({}, set()),
    "GPU-lost": ({"lost_s": 2}, {"gpu_lost"}),
    "GPU-reset": ({"reset_s": 2}, {"counter_reset"}),
    "GPU-frozen": ({"frozen_s": 2}, {"gap"}),
    "GPU-silent": ({"counter": 0, "fields": 0, "power": 0}, {"no_reading"}),
    "GPU-deaf": ({"error_from_s": 2, "error_to_s": 3.5}, {"gap"}),
    "GPU-beating": ({"sensor_every_ms": 1000, "sensor_over_ms": 1}, {"counter_trace_disagree"}),
    "GPU-stuck-power": ({"power_frozen_s": 2}, {"counter_trace_disagree"}),
    "GPU-hot": ({"heat_from_s": 1, "heat_to_s": 9}, {"throttled_heat"}),
    "GPU-shared": ({"foreign_pid": 1, "foreign_from_s": 1}, {"foreign_process"}),
    "GPU-capped": ({"cap_from_s": 1}, {"power_capped"}),
}


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Metered:
    gpus = [FakeGpu(uuid, 100, 900, tick_ms=50, settings=settings) for uuid, (settings, _) in FAULTS.items()]
    for _ in range(3):  # a busy machine may open it too late for the faults to be inside
        metered = window(gpus, tmp_path_factory.mktemp("faults") / "power.parquet", seconds=3.5)
        if metered.shown["begin_ns"] < metered.shown["origin_ns"] + 1_900_000_000:
            break
    return metered


@pytest.mark.parametrize("uuid", [uuid for uuid, (_, reasons) in FAULTS.items() if reasons])
def test_no_fault_passes_without_its_reason(faulty: Metered, uuid: str) -> None:
    device = faulty.device(uuid)
    assert FAULTS[uuid][1] & set(device["reasons"])
    assert device["verdict"] == ("valid" if uuid == "GPU-capped" else "invalid"), "a power cap is a remark"


def test_faults_are_those_of_their_device_alone(faulty: Metered) -> None:
    good = faulty.device("GPU-good")
    assert set(good["reasons"]) <= {"gap", "window_too_short"}, "no more than a busy machine does"
    assert good["energy_j"] is not None
    lost = [each for each in faulty.shown["devices"] if each["energy_j"] is None]
    assert {each["uuid"] for each in lost} >= {"GPU-lost", "GPU-reset", "GPU-silent"}
    assert all(each["verdict"] == "invalid" for each in lost)
    assert faulty.shown["node_total_j"] is None, "a part is missing, and the rest is not the whole"


def test_without_a_counter_the_trace_gives_the_joules_with_its_uncertainty(tmp_path: Path) -> None:
    gpu = FakeGpu("GPU-a", 250, 250, settings={"counter": 0})
    metered = window([gpu], tmp_path / "power.parquet", seconds=1.5)
    device = metered.device("GPU-a")
    assert device["source"] == "trace"
    assert device["energy_j"] == pytest.approx(metered.true_j(gpu), rel=1e-6)
    assert device["energy_stderr_j"] is not None


def test_a_window_under_a_second_is_told_to_be_short(tmp_path: Path) -> None:
    shown = window([FakeGpu("GPU-a", 250, 250)], tmp_path / "power.parquet", seconds=0.3).shown
    assert shown["duration_s"] < 0.8
    assert "window_too_short" in shown["devices"][0]["reasons"]


def test_net_energy_is_gross_less_idle_power(tmp_path: Path) -> None:
    """High for 3.2 s of each hour, and that from 2 s on: the idle second sees the low power, the window mostly high."""
    gpu = FakeGpu("GPU-a", 60, 300, wave="burst", period_ms=3.6e6, bursts=((2000, 3200),), tick_ms=20)
    metered = window([gpu], tmp_path / "power.parquet", seconds=2.0, idle_s=1.0)
    device, begin_s = metered.device("GPU-a"), (metered.shown["begin_ns"] - metered.shown["origin_ns"]) / 1e9
    if begin_s < 2.3:  # otherwise the machine was so busy that the idle second had the burst in it
        assert device["idle_w"] == pytest.approx(60, rel=0.02)
        net_j = metered.true_j(gpu) - 60 * metered.shown["duration_s"]
        assert device["energy_net_j"] == pytest.approx(net_j, rel=0.03, abs=300 * metered.wait_s("GPU-a"))
    assert device["energy_net_j"] == pytest.approx(device["energy_j"] - device["idle_w"] * metered.shown["duration_s"])


A, B = FakeGpu("GPU-aaaa", 100, 100), FakeGpu("GPU-abbb", 200, 200, tick_phase_ms=40)


@pytest.mark.parametrize("visible", ["", "1", "1,0"])
def test_names_mean_the_same_whatever_cuda_sees(visible: str, tmp_path: Path) -> None:
    for names in (["1"], ["GPU-abbb"], ["GPU-ab"]):
        env = {"CUDA_VISIBLE_DEVICES": visible}
        shown = window([A, B], tmp_path / "power.parquet", 0.2, names, env=env).shown
        assert [each["uuid"] for each in shown["devices"]] == ["GPU-abbb"]
        assert shown["devices"][0]["mean_power_w"] == pytest.approx(200, rel=0.05)


def test_other_gpus_of_the_node_stand_beside_and_complete_the_sum(tmp_path: Path) -> None:
    metered = window([A, B], tmp_path / "power.parquet", 1.5, ["GPU-abbb"])
    (beside,) = [each for each in metered.shown["surroundings"] if each["role"] == "gpu"]
    assert beside["domain"] == "GPU-aaaa"
    assert beside["energy_j"] == pytest.approx(metered.true_j(A), rel=0.02)
    parts = [*metered.shown["devices"], *metered.shown["surroundings"]]
    assert metered.shown["node_total_j"] == pytest.approx(sum(each["energy_j"] for each in parts))
    assert metered.shown["node_total_of"][:2] == ["devices", "gpu"]


def test_slices_have_the_joules_of_their_gpu_only_together(tmp_path: Path) -> None:
    gpu = FakeGpu("GPU-m", 150, 150, settings={"slices": 2})
    metered = window([gpu], tmp_path / "whole.parquet", 1.5)
    whole = metered.device("GPU-m")
    assert whole["verdict"] == "valid"
    assert whole["energy_j"] == pytest.approx(metered.true_j(gpu), rel=0.01)
    part = window([gpu], tmp_path / "part.parquet", 1.5, ["MIG-1-GPU-m"]).device("MIG-1-GPU-m")
    assert (part["energy_j"], part["verdict"], part["domains"]) == (None, "invalid", ["GPU-m"])
    assert "shared_domain" in part["reasons"]


def test_a_stretch_welcomes_whoever_is_at_work_and_says_so() -> None:
    gpu = FakeGpu("GPU-a", 200, 200, settings={"pids": "1"})
    done, shown = command_line("--seconds", "2.5", gpus=[gpu])
    (device,) = shown["devices"]
    assert (done.returncode, device["verdict"]) == (0, "valid")
    assert device["reasons"] == ["foreign_process"]
    assert "their joules are in the sum" in done.stderr


def test_a_command_beside_another_process_is_invalid_and_ends_with_3() -> None:
    gpu = FakeGpu("GPU-a", 200, 200, settings={"pids": "1"})
    done, shown = command_line("--", "sleep", "2.5", gpus=[gpu])
    assert (done.returncode, shown["command_exit_code"]) == (3, 0)
    assert "foreign_process" in shown["devices"][0]["reasons"]
    assert "foreign_process" in done.stderr
