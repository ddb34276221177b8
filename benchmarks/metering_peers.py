"""Other tools' windows on the devices that NVML shows, live, with the interpreter that has the tool.

    python benchmarks/metering_peers.py TOOL PLAN.json

PLAN is a list of [nominal length, length, pause] in seconds. The last line is a JSON list: for each window `begin_ns`
and `end_ns` of CLOCK_MONOTONIC, taken directly before the two calls that begin and end it, and `joules` by NVML index;
a tool that chooses edges of its own per device gives lists of times. The set-up of a tool is done before its windows.
"""

import json
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pynvml

Window = dict[str, Any]
POLL_S = 0.1


def handles() -> list[Any]:
    pynvml.nvmlInit()
    return [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]


def has_counter(handle: Any) -> bool:
    try:
        pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except pynvml.NVMLError_NotSupported:
        return False
    return True


def zeus() -> Callable[[float], Window]:
    """Where there is no counter, its PowerMonitor every 0.1 s: the interval that it finds itself in a thousand calls
    takes a real driver's time for each."""
    if not has_counter(handles()[0]):
        return zeus_power()
    from zeus.monitor import ZeusMonitor

    monitor = ZeusMonitor(gpu_indices=list(range(len(handles()))))

    def window(length_s: float) -> Window:
        begin_ns = time.monotonic_ns()
        monitor.begin_window("window", sync_execution=False)
        time.sleep(length_s)
        end_ns = time.monotonic_ns()
        joules = monitor.end_window("window", sync_execution=False).gpu_energy
        return {"begin_ns": begin_ns, "end_ns": end_ns, "joules": [joules[index] for index in sorted(joules)]}

    return window


def zeus_power() -> Callable[[float], Window]:
    from zeus.monitor import PowerMonitor

    monitor = None
    while monitor is None:
        try:
            monitor = PowerMonitor(gpu_indices=list(range(len(handles()))), update_period=POLL_S)
        except RuntimeError:  # its process has 10 s to start, while all the others of the benchmark do
            time.sleep(5)

    def window(length_s: float) -> Window:
        begin_ns, begin_s = time.monotonic_ns(), time.time()
        time.sleep(length_s)
        end_ns, end_s = time.monotonic_ns(), time.time()
        time.sleep(2 * POLL_S)  # its readings come through a queue
        joules = monitor.get_energy(begin_s, end_s) or {}
        return {"begin_ns": begin_ns, "end_ns": end_ns, "joules": [joules[index] for index in sorted(joules)]}

    return window


def codecarbon(every_s: float) -> Callable[[float], Window]:
    """`start` and `stop` of a tracker a window; its own deltas summed by device, before it sums the devices."""
    from codecarbon import OfflineEmissionsTracker
    from codecarbon.core.gpu import AllGPUDevices

    kwh: dict[int, float] = {}
    get_delta = AllGPUDevices.get_delta

    def kept(self: Any, *arguments: Any, **more: Any) -> Any:
        details = get_delta(self, *arguments, **more)
        for device in details:
            kwh[device["gpu_index"]] = kwh.get(device["gpu_index"], 0.0) + device["delta_energy_consumption"].kWh
        return details

    AllGPUDevices.get_delta = kept

    def window(length_s: float) -> Window:
        tracker = OfflineEmissionsTracker(
            country_iso_code="USA",
            measure_power_secs=every_s,
            save_to_file=False,
            log_level="critical",
            allow_multiple_runs=True,
        )
        tracker.get_detected_hardware()
        kwh.clear()
        begin_ns = time.monotonic_ns()
        tracker.start()
        time.sleep(length_s)
        end_ns = time.monotonic_ns()
        tracker.stop()
        return {"begin_ns": begin_ns, "end_ns": end_ns, "joules": [3.6e6 * kwh[index] for index in sorted(kwh)]}

    return window


def polling() -> Callable[[float], Window]:
    """Power times the time since the last look."""
    gpus = handles()

    def window(length_s: float) -> Window:
        joules, over = [0.0] * len(gpus), threading.Event()
        begin_ns = last_ns = time.monotonic_ns()
        while not over.wait(min(POLL_S, max(0.0, length_s - (last_ns - begin_ns) / 1e9))):
            watts = [pynvml.nvmlDeviceGetPowerUsage(gpu) / 1e3 for gpu in gpus]
            now_ns = time.monotonic_ns()
            joules = [sum_j + power_w * (now_ns - last_ns) / 1e9 for sum_j, power_w in zip(joules, watts, strict=True)]
            last_ns = now_ns
            if now_ns - begin_ns >= length_s * 1e9:
                over.set()
        return {"begin_ns": begin_ns, "end_ns": last_ns, "joules": joules}

    return window


def aligned() -> Callable[[float], Window]:
    """A few lines: each edge is the next tick of the device's counter, waited for by reading it all the time."""
    gpus = handles()

    def ticks() -> tuple[list[int], list[float]]:
        before = [pynvml.nvmlDeviceGetTotalEnergyConsumption(gpu) for gpu in gpus]
        found: dict[int, tuple[int, float]] = {}
        while len(found) < len(gpus):
            for index, gpu in enumerate(gpus):
                if index not in found:
                    value = pynvml.nvmlDeviceGetTotalEnergyConsumption(gpu)
                    if value != before[index]:
                        found[index] = time.monotonic_ns(), value / 1e3
            time.sleep(0.0005)
        return [found[index][0] for index in range(len(gpus))], [found[index][1] for index in range(len(gpus))]

    def window(length_s: float) -> Window:
        begin_ns, first = ticks()
        time.sleep(length_s)
        end_ns, last = ticks()
        return {"begin_ns": begin_ns, "end_ns": end_ns, "joules": [b - a for a, b in zip(first, last, strict=True)]}

    return window


TOOLS: dict[str, Callable[[], Callable[[float], Window]]] = {
    "zeus": zeus,
    "codecarbon 15 s": lambda: codecarbon(15),
    "codecarbon 0.1 s": lambda: codecarbon(0.1),
    "polling 0.1 s": polling,
    "aligned": aligned,
}


def main() -> None:
    tool, plan = sys.argv[1], json.loads(Path(sys.argv[2]).read_text())
    window = TOOLS[tool]()
    window(0.3)  # whatever is done once
    found = []
    for nominal_s, length_s, pause_s in plan:
        time.sleep(pause_s)
        found.append({"nominal_s": nominal_s, **window(length_s)})
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
