"""The doctor tells what is missing, and a remedy with everything that is not right."""

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from joulelaw import InputError
from joulelaw.bench import doctor
from joulelaw.bench.cli import main
from joulelaw.bench.doctor import Check, Diagnosis, examine, read_pins
from joulelaw.cluster.nodes.inventory import Device, Node
from joulelaw.cluster.nodes.topology import Link
from joulelaw.cluster.nodes.versions import source_hash
from joulelaw.cluster.power.meter import Reading

CORE = Device("CPU-0a-0", "AMD EPYC (1 core)", 0, "cpu", 2**33, (0,), None, "")
GPU = Device("GPU-1", "NVIDIA A40", 0, "cuda", 48 * 2**30, (), 300.0, "570.86")


def machine(monkeypatch: pytest.MonkeyPatch, *devices: Device) -> None:
    node = Node("local", "0a", devices, 2**34, 2, "AMD EPYC")
    monkeypatch.setattr(doctor, "inspect_node", lambda: node)


def found(diagnosis: Diagnosis, name: str) -> Check:
    return next(check for check in diagnosis.checks if check.name == name)


def test_a_machine_with_everything_can_run_and_each_problem_has_a_remedy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    machine(monkeypatch, CORE)
    diagnosis = examine(tmp_path)
    assert diagnosis.can_run
    assert [check.name for check in diagnosis.checks if check.state != "ok" and not check.remedy] == []
    assert diagnosis.meter_kind in {"measured", "estimated"}


def test_a_missing_package_stops_a_study_and_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    machine(monkeypatch, CORE)
    monkeypatch.setitem(doctor.STUDY_PACKAGES, "no-such-distribution", "no_such_module")
    diagnosis = examine(tmp_path)
    assert not diagnosis.can_run
    assert found(diagnosis, "no-such-distribution").state == "missing"
    assert "pip install" in found(diagnosis, "no-such-distribution").remedy


def test_where_no_trial_can_run_it_says_what_else_can(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    machine(monkeypatch, CORE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(doctor.STUDY_PACKAGES, "no-such-distribution", "no_such_module")
    assert main(["doctor"]) == 1
    assert "What needs none can: predict, recommend" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["ray", "deepspeed"])
def test_a_package_that_a_study_can_do_without_does_not_stop_it(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    machine(monkeypatch, CORE)
    monkeypatch.setattr(doctor, "package_version", lambda asked: None if asked == name else "1.0")
    diagnosis = examine(tmp_path)
    assert diagnosis.can_run
    check = found(diagnosis, name)
    assert (check.state, check.found) == ("note", "not installed")
    assert "pip install" in check.remedy


def test_packages_are_found_without_importing_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    machine(monkeypatch, CORE)
    for module in ("deepspeed", "ray"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    examine(tmp_path)
    assert not {"deepspeed", "ray"} & set(sys.modules)


def test_a_version_other_than_the_pinned_one_is_noted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    machine(monkeypatch, CORE)
    pins = tmp_path / "constraints.txt"
    pins.write_text("# pins\nray==1.0 ; python_version > '3'\nTorch==0.1+cu12\nnot a pin\n")
    assert read_pins(pins) == {"ray": "1.0", "torch": "0.1+cu12"}
    check = found(examine(tmp_path, pins), "ray")
    assert check.state == "note"
    assert check.remedy == "pip install 'ray==1.0'"


def test_a_build_for_another_accelerator_is_the_same_version(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    machine(monkeypatch, CORE)
    monkeypatch.setattr(doctor, "package_version", lambda name: "2.13.0+cpu")
    pins = tmp_path / "constraints.txt"
    pins.write_text("torch==2.13.0\n")
    assert found(examine(tmp_path, pins), "torch").state == "ok"


class Meter:
    def __init__(self, kind: str, error: str = "") -> None:
        self.name, self.kind, self.boundary, self.error, self.closed = kind, kind, "gpu", error, False

    def watch(self, device_uuid: str, pids: Sequence[int]) -> None:
        assert device_uuid
        assert pids

    def read(self) -> list[Reading]:
        return [Reading("GPU-1", 0, None, None, error=self.error)]

    def close(self) -> None:
        self.closed = True


def test_a_meter_that_opens_but_does_not_read_is_not_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    machine(monkeypatch, CORE)
    opened = {"rapl": Meter("measured", "no permission"), "estimate": Meter("estimated")}
    monkeypatch.setattr(doctor, "open_meter", lambda devices, options: opened[options.kind])
    diagnosis = examine(tmp_path)
    assert found(diagnosis, "meter rapl").found == "measured, gpu, but: no permission"
    assert (diagnosis.meter, diagnosis.meter_kind) == ("estimated", "estimated")
    assert all(meter.closed for meter in opened.values())


def test_no_meter_at_all_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(devices: object, options: object) -> None:
        raise InputError("no NVML library", remedy="install the NVIDIA driver")

    machine(monkeypatch, GPU)
    monkeypatch.setattr(doctor, "open_meter", refuse)
    diagnosis = examine(tmp_path)
    assert found(diagnosis, "meter nvml").remedy == "install the NVIDIA driver"
    assert found(diagnosis, "meter").found == "nothing here can be metered"
    assert found(diagnosis, "devices").found == "1 x NVIDIA A40, fp32, tf32, fp16, bf16"


@pytest.mark.parametrize(
    ("model", "capability", "precisions"),
    [
        ("Tesla T4", None, "fp32, fp16"),
        ("Unlisted Turing", (7, 5), "fp32, fp16"),
        ("Unlisted Ampere", (8, 6), "fp32, tf32, fp16, bf16"),
        ("Unlisted", None, "fp32, tf32, fp16, bf16"),
    ],
)
def test_only_precisions_that_a_gpu_has_are_told(
    model: str,
    capability: tuple[int, int] | None,
    precisions: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    machine(monkeypatch, replace(GPU, model=model, compute_capability=capability))
    assert found(examine(tmp_path), "devices").found == f"1 x {model}, {precisions}"


def test_the_driver_and_the_links_of_several_gpus_are_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    gpus = tuple(replace(GPU, uuid=f"GPU-{i}", index=i, pcie=(4, 16) if i else (4, 8)) for i in range(4))
    links = (
        Link("GPU-0", "GPU-1", "nvlink", 4),
        Link("GPU-2", "GPU-3", "nvlink", 4),
        Link("GPU-0", "GPU-2", "pcie", 8, 10),
        *(Link("GPU-1", other, "host", 16) for other in ("GPU-2", "GPU-3")),
    )
    monkeypatch.setattr(doctor, "inspect_node", lambda: Node("local", "0a", gpus, 2**34, 2, "AMD EPYC", links))
    diagnosis = examine(tmp_path)
    assert found(diagnosis, "NVIDIA driver").found == "570.86"
    assert found(diagnosis, "links").found == (
        "1 x PCIe 4 x8; 3 x PCIe 4 x16; 2 pairs by 4 NVLinks; 1 pair by PCIe; 2 pairs by PCIe through the host; "
        "1 pair by a way that NVML does not tell"
    )
    assert found(diagnosis, "joulelaw").found.endswith(source_hash())


def test_a_cpu_machine_has_neither(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    machine(monkeypatch, CORE)
    assert not {"links", "NVIDIA driver"} & {check.name for check in examine(tmp_path).checks}


def test_a_driver_that_does_not_answer_is_missing_not_a_traceback(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refuse() -> Node:
        raise InputError("the NVIDIA driver answers: Unknown Error", remedy="see that nvidia-smi works")

    monkeypatch.setattr(doctor, "inspect_node", refuse)
    diagnosis = examine(tmp_path)
    assert not diagnosis.can_run
    assert found(diagnosis, "devices").remedy == "see that nvidia-smi works"


def test_little_room_is_noted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    machine(monkeypatch, CORE)
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: SimpleNamespace(free=2**20))
    check = found(examine(tmp_path / "not" / "yet" / "there"), "disk")
    assert (check.state, check.found) == ("note", "0.0 GiB free")
    assert "free some space" in check.remedy


def test_a_machine_without_a_compiler_is_noted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    machine(monkeypatch, CORE)
    monkeypatch.setattr(doctor.shutil, "which", lambda name: None)
    assert found(examine(tmp_path), "C compiler").state == "note"
