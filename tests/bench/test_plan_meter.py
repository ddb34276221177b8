"""A meter that cannot be had is told with the sweep's line, before anything is started or written."""

import json
import os
from pathlib import Path

import pytest

from joulelaw import InputError
from joulelaw.bench.cli import main
from joulelaw.bench.plan.meter import NO_JOULES, local_meter
from joulelaw.bench.spec.sweep_file import Sweep, load_sweep
from joulelaw.cluster.nodes.inventory import Device, Node

GRID = "{num_layers: 2, hidden_size: 128, sequence_length: 64, micro_batch_size: 1, vocab_size: 1000}"
CORE = Device("CPU-0", "a core", 0, "cpu", 2**30, (0,), None, "")
NODE = Node("local", "abc", (CORE,), 2**30, 1, "a CPU")

REFUSED = {
    "nvml": "{meter: nvml}",
    "no wattage": "{meter: estimate}",
    "replay of one device": "{meter: replay, replay_path: trace.csv}",
    "replay of nothing": "{meter: replay, replay_path: nothing.csv}",
}


def sweep(folder: Path, metering: str) -> Sweep:
    (folder / "trace.csv").write_text("time_s,device,power_w\n0.0,a,5\n")
    (folder / "nothing.csv").write_text("time_s,device,power_w\n")
    path = folder / "sweep.yaml"
    path.write_text(f"schema: 1\nname: x\ngrids: [{GRID}]\nmetering: {metering}\n")
    return load_sweep(path)


def test_the_meter_of_a_sweep_is_told_before_anything_runs(tmp_path: Path) -> None:
    meter = local_meter(sweep(tmp_path, "{meter: estimate, cpu_w_per_core: 5}"), NODE)
    assert (meter.name, meter.kind) == ("cpu_time_estimate", "estimated")
    assert dict(meter.covers) == {"CPU-0": ("CPU-0",)}


@pytest.mark.parametrize("metering", ["{meter: nvml}", "{meter: estimate}"])
def test_a_meter_that_is_not_there_points_to_the_sweeps_line(metering: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        local_meter(sweep(tmp_path, metering), NODE)
    assert caught.value.where == f"{tmp_path}/sweep.yaml:4 metering.meter"
    assert caught.value.remedy


@pytest.mark.parametrize("command", ["plan", "run", "trial"])
@pytest.mark.parametrize("name", list(REFUSED))
def test_no_command_begins_a_study_without_the_meter_asked_for(
    command: str, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    if name == "replay of one device" and (os.cpu_count() or 1) < 2:
        pytest.skip("one recorded device is enough here")
    asked = sweep(tmp_path, REFUSED[name])
    into = [] if command == "plan" else ["--into", str(tmp_path / "out")]
    assert main([command, str(asked.path), *into]) == 2
    said = capsys.readouterr()
    assert json.loads(said.out.splitlines()[-1])["exit_code"] == 2
    assert said.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_plan_without_joules_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = sweep(tmp_path, "{meter: none}")
    assert main(["plan", str(asked.path)]) == 0
    said = capsys.readouterr().out
    assert NO_JOULES in said
    assert json.loads(said.splitlines()[-1])["meter_kind"] == "none"
