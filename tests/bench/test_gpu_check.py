"""The check of a GPU, dry on processor cores: whole, after a kill, without Ray and DeepSpeed, and marked as dry."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from joulelaw import InputError
from joulelaw.bench.gpu_check import card as card_module
from joulelaw.bench.gpu_check import machine as machine_module
from joulelaw.bench.gpu_check.__main__ import main
from joulelaw.bench.gpu_check.card import DRY, Card, find_card
from joulelaw.bench.gpu_check.machine import Machine, PartError
from joulelaw.bench.gpu_check.parts import Part
from joulelaw.bench.gpu_check.store import Store
from joulelaw.bench.gpu_check.summary import log_line, write_summary
from joulelaw.cluster.nodes.inventory import Device, Node
from tests.bench.bare_python import python_without
from tests.fake_nvml.build import fake_nvml
from tests.fake_nvml.devices import FakeGpu

pytestmark = [pytest.mark.xdist_group("study"), pytest.mark.timeout(600)]

GPU = Device("GPU-1", "NVIDIA H200", 0, "cuda", 141 * 10**9, (), 700.0, "580.1", (9, 0))
H200 = Card(GPU, Node("local", "0a", (GPU,), 2**37, 16, "a processor"), dry=False)


def start(python: Path, into: Path) -> "subprocess.Popen[str]":
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [str(python), "-m", "joulelaw.bench.gpu_check", "--device", "cpu", "--into", str(into)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    return subprocess.Popen(command, cwd=into.parent, env=environment, text=True, **pipes)  # type: ignore[call-overload,no-any-return]


def parts_of(folder: Path, step: str) -> dict[str, Any]:
    path = folder / f"{step}.json"
    found: dict[str, Any] = json.loads(path.read_text())["parts"] if path.is_file() else {}
    return found


def wait_for(process: "subprocess.Popen[str]", folder: Path, step: str) -> None:
    deadline = time.monotonic() + 200
    while not parts_of(folder, step) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
    assert process.poll() is None, process.communicate()[0]


def test_a_dry_run_without_ray_and_deepspeed_goes_on_after_a_kill_and_says_that_it_is_one(tmp_path: Path) -> None:
    bare, folder = python_without(["ray", "deepspeed"], tmp_path / "bare"), tmp_path / DRY
    first = start(bare, tmp_path)
    wait_for(first, folder, "peaks")
    first.send_signal(signal.SIGKILL)
    first.communicate()
    before = {step: parts_of(folder, step) for step in ("equal", "meter")}

    said, _ = start(bare, tmp_path).communicate(timeout=400)
    told = json.loads(said.splitlines()[-1])
    assert (told["exit_code"], told["complete"], told["failed"]) == (0, True, []), said
    assert {step: parts_of(folder, step) for step in before} == before, "what was measured is not measured again"
    for step in ("equal", "meter", "peaks", "steps", "sweep", "fitting"):
        content = json.loads((folder / f"{step}.json").read_text())
        assert content["dry_run"] is True
        assert "(1 core)" in content["device"]
        assert content["parts"]
    assert all(part["equal"] for part in parts_of(folder, "equal").values())
    assert {part["meter"]["kind"] for part in parts_of(folder, "steps").values()} == {"estimated"}
    assert parts_of(folder, "sweep")["sweep"]["planned"] == 6, "zero2 is set aside"
    for name in ("report.md", "law.json", "validation.json", "coefficients.csv", "report.html"):
        assert (folder / name).stat().st_size > 0
    report = (folder / "report.md").read_text()
    assert "no GPU was measured, and no figure below means anything" in report
    assert "DRY RUN, not a GPU" in report.splitlines()[-1]
    assert "estimated" in report


def test_on_a_gpu_without_cuda_the_meter_is_read_and_what_cannot_run_is_told(tmp_path: Path) -> None:
    """A GPU of the fake NVML library: its idle power is true, and whatever has to compute on it fails, twice."""
    gpu = FakeGpu("GPU-00000000-0000-0000-0000-000000000001", 83.0, 83.0, sensor="h100")
    environment = fake_nvml().environment([gpu], time.monotonic_ns())
    command = [sys.executable, "-m", "joulelaw.bench.gpu_check", "--only", "meter", "--into", str(tmp_path / "out")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200)
    told = json.loads(done.stdout.splitlines()[-1])
    assert (told["exit_code"], told["device"], told["dry_run"]) == (1, "NVIDIA H100 80GB HBM3", False), done.stderr
    parts = parts_of(tmp_path / "out", "meter")
    idle = parts.pop("idle")
    assert idle["meter"] == {"name": "nvml", "kind": "measured", "boundary": "gpu"}
    assert idle["stretches"]["idle"]["power_w"] == pytest.approx(83.0, rel=5e-3)
    assert idle["sensor"]["sensor_class"] == "h100"
    assert len(parts) == 5
    assert all(part["tries"] == 2 and gpu.uuid in part["error"] for part in parts.values())
    assert "83.0" in (tmp_path / "out" / "report.md").read_text()


def test_without_a_gpu_it_says_so_and_offers_the_dry_run(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["--into", str(tmp_path)]) == 2
    assert "no NVIDIA GPU here" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_where_the_time_is_over_nothing_is_begun(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--device", "cpu", "--into", str(tmp_path), "--minutes", "0.1", "--only", "peaks"]) == 130
    assert not (tmp_path / DRY / "peaks.json").exists()
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["complete"] is False


def test_a_dry_run_is_refused_where_there_is_a_gpu_and_never_meets_its_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(card_module, "cuda_devices", lambda: (GPU,))
    monkeypatch.setattr(card_module, "inspect_node", lambda: H200.node)
    assert find_card("cuda") == H200
    with pytest.raises(InputError, match="a dry run where there is a GPU"):
        find_card("cpu")
    assert H200.folder(None) == Path("results/1x-nvidia-h200/gpu_check")
    assert H200.meter_options.kind == "nvml"
    dry = replace(H200, dry=True)
    assert dry.folder(None) == Path("build") / DRY
    assert dry.folder(tmp_path).name == DRY
    Store(tmp_path, dry).put("peaks", "fp32", {"flop_per_s": 1.0})
    with pytest.raises(InputError, match="a dry run"):
        Store(tmp_path, H200).open()


def test_a_part_that_fails_is_tried_once_more(tmp_path: Path) -> None:
    store = Store(tmp_path, H200)
    store.fail("steps", "large", "OutOfMemoryError: of memory")
    assert not store.is_over("steps", "large")
    store.fail("steps", "large", "OutOfMemoryError: of memory")
    assert store.is_over("steps", "large")
    assert not store.values("steps")
    assert "Failed: large: OutOfMemoryError" in write_summary(store, H200).read_text()
    store.put("steps", "large", {"ratio": float("nan")})
    assert store.values("steps")["large"]["ratio"] is None


def test_what_failed_is_forgotten_where_it_is_asked_for_again(tmp_path: Path) -> None:
    store = Store(tmp_path, H200)
    store.put("steps", "base", {"ratio": 1.0})
    for _ in range(2):
        store.fail("steps", "large", "no compiler")
    store.forget_failures()
    assert not store.is_over("steps", "large")
    assert store.values("steps")["base"]["ratio"] == 1.0


def test_a_part_that_is_given_up_while_nothing_is_sampled_fails_alone() -> None:
    """The turn without sampling comes first, and is longer than there is time."""
    model = {"num_layers": 1, "hidden_size": 64, "micro_batch_size": 1, "sequence_length": 8, "precision": "fp32"}
    endless = Part("meter", "x", "loads:overhead", 5, {"model": model, "pairs": 1, "seconds": 300.0})
    with Machine(find_card("cpu")) as machine:
        with pytest.raises(PartError, match="too long"):
            machine.run(endless, 15.0)
        assert "stretches" in machine.run(Part("meter", "idle", "loads:idle", 1, {"seconds": 0.5, "rest_s": 0.0}), 60.0)


def test_libraries_that_cannot_be_loaded_end_it_with_a_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(machine_module, "PRELOAD", ("no_such_library",))
    assert main(["--device", "cpu", "--into", str(tmp_path), "--only", "peaks"]) == 1
    assert "no_such_library" in json.loads(capsys.readouterr().out.splitlines()[-1])["error"]


def test_the_report_gives_shares_of_the_data_sheet_and_of_the_measured_peak(tmp_path: Path) -> None:
    """Its data sheet says 989.4 TFLOP/s in bf16 and 4.8 TB/s. BERT-base computes at least 6 N FLOPs a token."""
    store = Store(tmp_path, H200)
    meter = {"meter": {"name": "nvml", "kind": "measured", "boundary": "gpu"}, "sensor": {"gain_bound": 0.05}}
    store.put("peaks", "bf16", {"flop_per_s": 494.7e12, "best_side": 8192, "sides": {}, "stretches": {}, **meter})
    copied = {"bytes_per_s": 4.2e12, "size_bytes": 2**31, "stretches": {"copy": {"power_w": 400.0}}, **meter}
    store.put("peaks", "copy", copied)
    model = {"num_layers": 12, "hidden_size": 768, "micro_batch_size": 32, "sequence_length": 128, "precision": "bf16"}
    turns = {
        f"{arm} {turn}": {"energy_j": joules} for arm, joules in (("ours", 120.0), ("plain", 150.0)) for turn in (0, 1)
    }
    step = {"model": model, "steps_a_turn": 10, "step_s": {"ours": 0.02, "plain": 0.021}, "ratio": 1.05}
    store.put("steps", "BERT-base, 128 tokens", {**step, "ratios": [1.0, 1.1], "stretches": turns, **meter})
    report = write_summary(store, H200).read_text()
    assert "| bf16 | 494.7 TFLOP/s | side 8192 | 989.4 TFLOP/s | 50.00 % | - |" in report
    assert "| copy | 4200 GB/s | 2048 MiB | 4800 GB/s | 87.50 % | 400 |" in report
    line = next(line for line in report.splitlines() if line.startswith("| BERT-base"))
    _, step_ms, _, ratio, joules, plain_joules, share, plain_share = line.strip("| ").split(" | ")
    assert (step_ms, ratio, joules, plain_joules) == ("20.00 ms", "1.0500 (1.0000 to 1.1000)", "12.0", "15.0")
    blocks = 12 * 12 * 768**2
    least = 100 * 6 * blocks * 32 * 128 / 0.02 / 494.7e12
    assert least < float(share.removesuffix(" %")) < 1.1 * least
    assert float(plain_share.removesuffix(" %")) == pytest.approx(
        float(share.removesuffix(" %")) * 0.02 / 0.021, abs=0.01
    )
    assert "All ratios are 0.99 or more" in report
    store.put("steps", "BERT-large, 128 tokens", {**step, "ratio": 0.98, "ratios": [0.98], "stretches": turns, **meter})
    assert "Below 0.99: BERT-large, 128 tokens." in write_summary(store, H200).read_text()
    assert "meter nvml (measured)" in report
    assert "at most 5.00 %" in report
    assert "dry" not in report.lower()
    assert "ours at least 0.980" in log_line(store, H200)
