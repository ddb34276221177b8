"""Measuring from Python: the docstring's and the README's example, whose work counts, processes and their CPU time."""

import doctest
import os
import re
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from joulelaw import InputError
from joulelaw.bench.energy.readings import power_table
from joulelaw.bench.meter import window as meter_window
from joulelaw.bench.meter.devices import chosen, node_devices
from joulelaw.bench.meter.processes import LOOK_EVERY_NS, ProcessTree, descendants
from joulelaw.bench.meter.readings import store_at
from joulelaw.bench.meter.result import Measured, inseparable, made_result
from joulelaw.bench.meter.window import measured
from joulelaw.cluster.nodes.inventory import Device
from joulelaw.cluster.power import rapl_zones
from joulelaw.cluster.power.meter import MeterOptions, NoMeter, Reading
from tests.bench.metering import window
from tests.fake_nvml.build import ROOT, fake_nvml
from tests.fake_nvml.devices import FakeGpu

pytestmark = pytest.mark.xdist_group("fake_nvml")
ESTIMATE = MeterOptions(kind="estimate", cpu_w_per_core=10.0)


def cpu(uuid: str, *cores: int) -> Device:
    return Device(uuid, "AMD EPYC", int(uuid[-1]), "cpu", 2**33, cores, None, "")


def burn(seconds: float) -> None:
    until = time.process_time() + seconds
    while time.process_time() < until:
        pass


def test_the_docstrings_example_runs() -> None:
    results = doctest.testmod(meter_window)
    assert (results.failed, results.attempted > 3) == (0, True)


def test_the_readmes_example_runs() -> None:
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    script = "import contextlib, io\ndef train(): time.sleep(1.3)\n"
    script += "with contextlib.redirect_stdout(io.StringIO()) as said:\n"
    script += "".join(f"    {line}\n" for line in block.splitlines()) + "show(said.getvalue())"
    uuid, energy_j, stderr_j, verdict = fake_nvml().run([FakeGpu("GPU-a", 200, 200)], script).split()
    assert (uuid, verdict) == ("GPU-a", "valid")
    assert float(energy_j) == pytest.approx(200 * 1.3, rel=0.2)
    assert 0 < float(stderr_j) < 20


def test_the_programs_own_work_on_a_gpu_is_not_foreign(tmp_path: Path) -> None:
    gpus = [FakeGpu("GPU-a", settings={"pids": "OWN"}), FakeGpu("GPU-b", settings={"pids": "OWN,1"})]
    metered = window(gpus, tmp_path / "power.parquet", seconds=2.5)
    found = {each["uuid"]: "foreign_process" in each["reasons"] for each in metered.shown["devices"]}
    assert found == {"GPU-a": False, "GPU-b": True}


def test_the_estimate_is_of_this_program_and_what_it_starts() -> None:
    with measured(options=ESTIMATE) as open_window:
        before_s = time.process_time()
        burn(0.7)
        subprocess.run([sys.executable, "-c", "import time\nwhile time.process_time() < 0.5: pass"], check=True)
        own_s = time.process_time() - before_s
    (device,) = open_window.result.devices
    assert device.energy_j is not None
    assert device.energy_j == pytest.approx(10.0 * (own_s + 0.5), rel=0.05)
    assert open_window.result.node_total_j == device.energy_j


def test_an_error_in_the_block_passes_and_the_joules_until_then_are_there() -> None:
    def fail() -> None:
        burn(0.2)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), measured(options=ESTIMATE) as open_window:
        fail()
    assert open_window.result.devices[0].energy_j is not None
    assert "window_too_short" in open_window.result.devices[0].verdict.reasons


def test_a_disk_that_refuses_the_readings_costs_no_joules(tmp_path: Path) -> None:
    place = tmp_path / "kept"
    store = store_at(place)
    place.write_text("in the way")
    with measured(options=ESTIMATE, store=store) as open_window:
        burn(0.2)
    assert "in the way" in store.problem
    assert open_window.result.devices[0].energy_j is not None


def test_there_is_no_result_before_the_end() -> None:
    with measured(options=ESTIMATE) as open_window, pytest.raises(RuntimeError, match="still open"):
        _ = open_window.result


def test_without_a_meter_nothing_is_measured() -> None:
    device = Device("GPU-gone", "NVIDIA A40", 0, "cuda", 2**33, (), None, "")
    with pytest.raises(InputError, match="nothing here can be metered"), measured([device]):
        pytest.fail("the block must not run")


def test_a_machine_that_slept_in_the_window_is_told() -> None:
    device, second = cpu("CPU-0", 0), 10**9
    readings = [Reading("CPU-0", round(k * 0.05 * second), energy_counter_j=k * 2.0) for k in range(100)]
    meter = NoMeter([device], "only its name and devices are used")
    for slept_s, reasons in ((0.0, ()), (3.0, ("clock_jump",))):
        part = power_table("cpu_time_estimate", readings)
        result = made_result(meter, [device], Measured([part], second, 3 * second, slept_s))
        assert result.devices[0].energy_j == pytest.approx(80)
        assert result.devices[0].verdict.reasons == reasons


def test_cpu_packages_are_metered_as_one_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two packages of 30 W and 12 W, whose counters a thread moves on; the device is all cores."""
    watts, zones = {0: 30.0, 1: 12.0}, tmp_path / "class/powercap"
    (device,) = node_devices("rapl")
    packages = {core: position % 2 for position, core in enumerate(device.cores)}
    for core, package in packages.items():
        topology = tmp_path / f"devices/system/cpu/cpu{core}/topology"
        topology.mkdir(parents=True)
        (topology / "physical_package_id").write_text(str(package))
    used = sorted(set(packages.values()))
    origin_ns, over = time.monotonic_ns(), threading.Event()

    def move_on() -> None:
        for package in used:
            counter = zones / f"intel-rapl:{package}" / "energy_uj"
            counter.with_suffix(".new").write_text(str(round(watts[package] * (time.monotonic_ns() - origin_ns) / 1e3)))
            counter.with_suffix(".new").replace(counter)

    def keep_moving() -> None:
        while not over.wait(0.001):
            move_on()

    for package in used:
        (zones / f"intel-rapl:{package}").mkdir(parents=True)
        (zones / f"intel-rapl:{package}" / "name").write_text(f"package-{package}\n")
        (zones / f"intel-rapl:{package}" / "max_energy_range_uj").write_text(str(2**38))
    move_on()
    monkeypatch.setattr(rapl_zones, "SYS", tmp_path)
    thread = threading.Thread(target=keep_moving)
    thread.start()
    try:
        with measured(options=MeterOptions(kind="rapl")) as open_window:
            time.sleep(1.2)
    finally:
        over.set()
        thread.join()
    (found,) = open_window.result.devices
    assert len(found.energy.devices) == len(used)
    expected_w = sum(watts[package] for package in used)
    assert found.mean_power_w == pytest.approx(expected_w, rel=0.05)
    assert open_window.result.boundary == "cpu_package"


def test_devices_that_share_a_meter_are_told_together() -> None:
    devices = [cpu(f"CPU-{k}", k) for k in range(5)]
    names = [device.uuid for device in devices]
    covers = {"package-0": names[:2], "package-1": names[2:4], "both": [names[1], names[4]]}
    groups = inseparable(devices, covers)
    assert [[device.uuid for device in group] for group in groups] == [names[2:4], [names[0], names[1], names[4]]]


def test_names_choose_devices_once_and_in_order() -> None:
    devices = [cpu(f"CPU-{k}", k) for k in range(3)]
    assert [device.index for device in chosen(devices, ["2", "CPU-0", "2"])] == [2, 0]
    assert chosen(devices, []) == tuple(devices)
    with pytest.raises(InputError, match="beginning of several") as caught:
        chosen(devices, ["CPU-"])
    assert "1 = CPU-1" in caught.value.remedy


def test_the_cpu_is_one_device() -> None:
    (device,) = node_devices("estimate")
    assert set(device.cores) <= os.sched_getaffinity(0)
    assert len(device.cores) > 0


def test_a_process_tree_counts_those_at_work_those_that_ended_and_those_cut_loose(tmp_path: Path) -> None:
    """A shell starts a process that outlives it; its time stays in, and no reading is lower than the one before."""
    script, go = tmp_path / "work.py", tmp_path / "go"
    script.write_text(
        "import os, pathlib, time\n"
        "print(os.getpid(), flush=True)\n"
        f"while not pathlib.Path({str(go)!r}).exists(): time.sleep(0.02)\n"
        "used = time.process_time()\n"
        "while time.process_time() < used + 0.4: pass\n"
        "print('burnt', flush=True)\n"
        "time.sleep(60)\n"
    )
    tree, readings = ProcessTree(), []
    tree.cpu_ns()
    line = f"{sys.executable} {script} & exec sleep 60"
    shell = subprocess.Popen(["sh", "-c", line], stdout=subprocess.PIPE, text=True)
    assert shell.stdout is not None
    try:
        pid = int(shell.stdout.readline())
        time.sleep(2 * LOOK_EVERY_NS / 1e9)
        readings.append(tree.cpu_ns())
        assert pid in tree.pids()
        assert pid in descendants(os.getpid())
        shell.kill()
        shell.wait()
        time.sleep(2 * LOOK_EVERY_NS / 1e9)
        readings.append(tree.cpu_ns())
        assert pid in tree.pids(), "cut loose, and still known"
        go.touch()
        assert shell.stdout.readline() == "burnt\n"
        readings.append(tree.cpu_ns())
        os.kill(pid, signal.SIGKILL)
        while pid in tree.pids():
            readings.append(tree.cpu_ns())
            time.sleep(0.01)
        readings.append(tree.cpu_ns())
    finally:
        shell.kill()
    assert readings == sorted(readings)
    assert (readings[-1] - readings[1]) / 1e9 == pytest.approx(0.4, abs=0.1)


def test_a_process_is_known_the_moment_that_it_is_started() -> None:
    """The first second of a command must not pass for another's work on the GPU."""
    tree = ProcessTree()
    tree.pids()
    with subprocess.Popen(["sleep", "60"]) as process:
        found = tree.pids()
        process.kill()
    assert process.pid in found


def test_a_process_tree_ends_with_what_the_kernel_counts() -> None:
    tree = ProcessTree()
    tree.cpu_ns()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start_ns = tree.cpu_ns()
    subprocess.run(["sh", "-c", "for i in 1 2 3 4 5 6; do sh -c 'for j in 1 2 3 4 5; do date; done'; done"], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert (tree.cpu_ns() - start_ns) / 1e9 == pytest.approx(used_s, abs=1e-6)
