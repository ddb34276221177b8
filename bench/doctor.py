"""What can run and be metered on this machine, what is missing, and what to do about it. Changes nothing."""

import os
import platform
import re
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from joulelaw import InputError, __version__
from joulelaw.bench.plan.devices import with_assumed
from joulelaw.bench.study.environment import package_version
from joulelaw.bench.training.precision import trained_in
from joulelaw.cluster.nodes.inventory import Device, Node, inspect_node
from joulelaw.cluster.nodes.topology import LinkKind
from joulelaw.cluster.nodes.versions import source_hash
from joulelaw.cluster.power.meter import MeterChoice, MeterOptions, open_meter
from joulelaw.cluster.power.nvml import nvml_problem
from joulelaw.model.hardware import Catalogue

State = Literal["ok", "note", "missing"]

# Distribution and module of what a study needs beyond the law itself.
STUDY_PACKAGES = {
    "torch": "torch",
    "transformers": "transformers",
    "deepspeed": "deepspeed",
    "ray": "ray",
    "psutil": "psutil",
    "nvidia-ml-py": "pynvml",
}
# What a study can do without, and how.
DISPENSABLE = {
    "deepspeed": "ZeRO strategies are set aside; else pip install 'joulelaw[bench]' -c constraints.txt",
    "ray": "one machine runs studies without it: joulelaw run --alone; else pip install 'joulelaw[bench]'",
}
OLDEST_PYTHON = (3, 11)
ENOUGH_DISK_BYTES = 2 * 2**30
ENOUGH_MEMORY_BYTES = 3 * 2**30
ENOUGH_SHM_BYTES = 256 * 2**20
# Any wattage shows whether the estimate works here; a sweep states its own.
_SOME_WATTS = 10.0
_CONSTRAINTS = Path(__file__).resolve().parent.parent / "constraints.txt"


@dataclass(frozen=True)
class Check:
    """One finding. "missing" stops a study, "note" does not."""

    name: str
    state: State
    found: str
    remedy: str = ""


@dataclass(frozen=True)
class Diagnosis:
    """All findings, the devices a study would use, and the meter it would get ("" where none)."""

    checks: tuple[Check, ...]
    devices: tuple[Device, ...]
    meter: str
    meter_kind: str

    @property
    def can_run(self) -> bool:
        return not any(check.state == "missing" for check in self.checks)


def examine(folder: Path, pins: Path = _CONSTRAINTS) -> Diagnosis:
    """Looks at Python, packages, devices and their links, meters, and the room in `folder` and in memory."""
    checks = [_python(), _source(), *_packages(read_pins(pins)), _ray(), _compiler()]
    devices: tuple[Device, ...] = ()
    try:
        node = inspect_node()
        devices = node.devices
        checks += [_devices(node), *_joints(node)]
    except InputError as error:
        checks.append(Check("devices", "missing", error.what, error.remedy))
    meters = list(_meters(devices))
    checks += [check for check, _ in meters]
    best, kind = next((meter for check, meter in meters if check.state == "ok"), ("", ""))
    if devices and not best:
        checks.append(Check("meter", "note", "nothing here can be metered", "joules will be missing, seconds not"))
    checks += [_disk(folder), _memory(), _shared_memory()]
    return Diagnosis(tuple(checks), devices, best, kind)


def read_pins(path: Path) -> dict[str, str]:
    """The versions that constraints.txt pins, by lower-case name; empty where the file is not there."""
    if not path.is_file():
        return {}
    lines = (line.split("#")[0].strip() for line in path.read_text(encoding="utf-8").splitlines())
    pairs = (line.partition("==") for line in lines)
    return {name.strip().lower(): pinned.split(";")[0].strip() for name, equals, pinned in pairs if equals}


def _python() -> Check:
    found = f"{platform.python_implementation()} {platform.python_version()}"
    wanted = ".".join(map(str, OLDEST_PYTHON))
    current = tuple(int(part) for part in platform.python_version_tuple()[:2])
    if current < OLDEST_PYTHON:
        return Check("Python", "missing", found, f"install Python {wanted} or newer")
    return Check("Python", "ok", found)


def _source() -> Check:
    """What every node of a cluster must have the same of."""
    return Check("joulelaw", "ok", f"{__version__}, source {source_hash()}")


def _packages(pins: dict[str, str]) -> Iterator[Check]:
    for name, module in STUDY_PACKAGES.items():
        found = package_version(name)
        if found is None or find_spec(module) is None:
            remedy = DISPENSABLE.get(name, "pip install 'joulelaw[bench]' -c constraints.txt")
            yield Check(name, "note" if name in DISPENSABLE else "missing", "not installed", remedy)
            continue
        pinned = pins.get(name, "")
        if pinned and found.split("+")[0] != pinned.split("+")[0]:
            yield Check(name, "note", f"{found}, tested with {pinned}", f"pip install '{name}=={pinned}'")
        else:
            yield Check(name, "ok", found)


def _ray() -> Check:
    address = os.environ.get("RAY_ADDRESS")
    return Check("Ray cluster", "ok", f"RAY_ADDRESS is {address}" if address else "none named: a local one is started")


def _compiler() -> Check:
    found = next((name for name in ("cc", "gcc", "clang") if shutil.which(name)), None)
    if found is None:
        return Check("C compiler", "note", "none", "install one (apt install gcc): some packages are built with it")
    return Check("C compiler", "ok", found)


def _devices(node: Node) -> Check:
    devices = node.devices
    catalogue, _ = with_assumed(Catalogue.load(), [node])
    told = []
    for model, kind in {device.model: device.kind for device in devices}.items():
        precisions = ", ".join(trained_in(kind, catalogue.get(model).peak_flop_per_s))
        told.append(f"{sum(device.model == model for device in devices)} x {model}, {precisions}")
    if not devices:
        return Check("devices", "missing", "none", "lower devices.cores_per_device in the sweep")
    if all(device.kind == "cpu" for device in devices):
        return Check("devices", "note", "; ".join(told), f"logical CPU devices, as there is no GPU ({nvml_problem()})")
    return Check("devices", "ok", "; ".join(told))


def _joints(node: Node) -> Iterator[Check]:
    """The driver of the GPUs, and what joins them."""
    gpus = [device for device in node.devices if device.kind == "cuda"]
    if not gpus:
        return
    yield Check("NVIDIA driver", "ok", gpus[0].driver or "it does not tell its version")
    slots = Counter(f"PCIe {device.pcie[0]} x{device.pcie[1]}" if device.pcie else "PCIe untold" for device in gpus)
    pairs = Counter(_way(link.kind, link.lanes) for link in node.links)
    pairs["a way that NVML does not tell"] = len(gpus) * (len(gpus) - 1) // 2 - pairs.total()
    told = [f"{number} x {slot}" for slot, number in slots.items()]
    told += [f"{number} pair{'s' if number > 1 else ''} by {way}" for way, number in pairs.items() if number > 0]
    yield Check("links", "ok", "; ".join(told))


def _way(kind: LinkKind, lanes: int) -> str:
    if kind == "nvlink":
        return f"{lanes} NVLink{'s' if lanes > 1 else ''}"
    return "PCIe" if kind == "pcie" else "PCIe through the host"


def _meters(devices: Sequence[Device]) -> Iterator[tuple[Check, tuple[str, str]]]:
    """Every meter of such devices, best first, tried on all of them; beside it the name and kind of one that works."""
    choices: tuple[MeterChoice, ...] = (
        ("nvml",) if any(each.kind == "cuda" for each in devices) else ("rapl", "estimate")
    )
    for choice in choices if devices else ():
        name = f"meter {choice}"
        try:
            meter = open_meter(devices, MeterOptions(kind=choice, cpu_w_per_core=_SOME_WATTS))
        except InputError as error:
            yield Check(name, "note", error.what, error.remedy), ("", "")
            continue
        try:
            for device in devices:
                meter.watch(device.uuid, [os.getpid()])
            errors = [reading.error for reading in meter.read() if reading.error]
            found = f"{meter.kind}, {meter.boundary}"
            if errors:
                yield Check(name, "note", f"{found}, but: {errors[0]}", "see that the device answers"), ("", "")
            else:
                remedy = "state metering.cpu_w_per_core in the sweep" if meter.kind == "estimated" else ""
                yield Check(name, "ok", found, remedy), (meter.name, meter.kind)
        finally:
            meter.close()


def _disk(folder: Path) -> Check:
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(there).free
    if not os.access(there, os.W_OK):
        return Check("disk", "missing", "this folder cannot be written to", "change to another, or use --into")
    return _room("disk", free, ENOUGH_DISK_BYTES, "free some space, or use --into")


def _memory() -> Check:
    try:
        text = Path("/proc/meminfo").read_text(encoding="ascii")
        free = 1024 * int(re.findall(r"^MemAvailable:\s+(\d+) kB", text, re.MULTILINE)[0])
    except (OSError, IndexError):
        return Check("memory", "note", "unknown: no /proc/meminfo")
    return _room("memory", free, ENOUGH_MEMORY_BYTES, "end other programs: Ray and torch take about 3 GiB")


def _shared_memory() -> Check:
    path = Path("/dev/shm")
    if not path.exists():
        return Check("shared memory", "note", "no /dev/shm", "Ray will use slower files")
    remedy = "start the container with a larger --shm-size"
    return _room("shared memory", shutil.disk_usage(path).free, ENOUGH_SHM_BYTES, remedy)


def _room(name: str, free: int, enough: int, remedy: str) -> Check:
    found = f"{free / 2**30:.1f} GiB free"
    return Check(name, "ok", found) if free >= enough else Check(name, "note", found, remedy)
