"""CPU packages through Linux RAPL (/sys/class/powercap), Intel's and AMD's: an energy counter a package, in µJ.

The counter wraps at `max_energy_range_uj` (minutes at full load); it is unwrapped here, so that readings only rise.
DRAM and the rest of the machine are outside the package's counter.
"""

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from joulelaw.cluster.power.meter import DeviceLike, MeterKind, MeterUnavailableError, Reading, Surrounding
from joulelaw.cluster.power.sensor import Sensor

SYS = Path("/sys")
# A package of several dies has a zone a die; the same zones come once more under the older MMIO interface.
PACKAGE = re.compile(r"package-(\d+)(-die-\d+)?")
OLDER_INTERFACE = "intel-rapl-mmio"
REMEDY_UNREADABLE = (
    "Linux lets only root read it since CVE-2020-8694: run `sudo chmod a+r /sys/class/powercap/*/energy_uj` "
    "(lasts until the next boot), or choose 'estimate'"
)


# A fall of the counter is a wrap where that means a power a package can draw, and a reset (suspend) otherwise.
MAX_PACKAGE_W = 5000.0
SLACK_J = 1.0  # for readings so close together that the counter's own update interval, 1 ms, counts


@dataclass
class _Zone:
    """One counter of a package and what it has counted since it was opened, or since it was reset."""

    path: Path
    range_uj: int
    last_uj: int
    last_ns: int
    counted_uj: int = 0

    def advance(self, now_ns: int) -> int:
        now_uj = int(self.path.read_text())
        # The range is the largest value shown, so a wrap passes range + 1 values.
        used_uj = (now_uj - self.last_uj) % (self.range_uj + 1)
        possible_uj = 1e6 * SLACK_J + MAX_PACKAGE_W * (now_ns - self.last_ns) / 1e3
        is_reset = now_uj < self.last_uj and used_uj > possible_uj
        self.counted_uj = 0 if is_reset else self.counted_uj + used_uj  # the fall to 0 tells the reader of a reset
        self.last_uj, self.last_ns = now_uj, now_ns
        return self.counted_uj


class RaplMeter:
    """The energy counters of CPU packages, each shared by the logical devices on its cores. See `open_rapl`."""

    name = "rapl"
    kind: MeterKind = "measured"
    boundary = "cpu_package"

    def __init__(
        self, device_uuids: tuple[str, ...], zones: dict[str, list[_Zone]], covers: Mapping[str, tuple[str, ...]]
    ) -> None:
        self.device_uuids = device_uuids
        self.covers = covers
        self.description: Mapping[str, str] = {
            domain: "energy: " + " + ".join(str(zone.path) for zone in parts) for domain, parts in zones.items()
        }
        self.sensors: Mapping[str, Sensor] = {}
        self.surroundings: Mapping[str, Surrounding] = {}
        self._zones = zones

    def read(self) -> list[Reading]:
        return [self._read(domain, zones) for domain, zones in self._zones.items()]

    def _read(self, domain: str, zones: list[_Zone]) -> Reading:
        begin_ns = time.monotonic_ns()
        try:
            counter_j = sum(zone.advance(begin_ns) for zone in zones) / 1e6
        except (OSError, ValueError) as error:
            return Reading(domain, time.monotonic_ns(), error=f"energy counter: {error}")
        return Reading(domain, (begin_ns + time.monotonic_ns()) // 2, energy_counter_j=counter_j)

    def watch(self, device_uuid: str, pids: Sequence[int]) -> None:
        """RAPL meters the package, whoever uses it."""

    def close(self) -> None:
        """Nothing is held between readings."""


def open_rapl(devices: Sequence[DeviceLike], root: Path | None = None) -> RaplMeter:
    """Meter the packages of these devices' cores. `root` stands for /sys.

    Raises MeterUnavailableError without RAPL, where only root may read it, and for a device that is no CPU.
    """
    root = root or SYS
    where, others = "meter.kind 'rapl'", [device.uuid for device in devices if device.kind != "cpu"]
    if others:
        raise MeterUnavailableError(f"not a CPU device: {', '.join(others)}", where=where, remedy="choose 'nvml'")
    zones = _open_zones(root, where)
    covers: dict[str, list[str]] = {}
    for device in devices:
        try:
            packages = sorted({_package_of(core, root) for core in device.cores})
        except (OSError, ValueError) as error:
            raise _unreadable(root, error, where) from error
        for package in packages:
            covers.setdefault(f"package-{package}", []).append(device.uuid)
    if missing := covers.keys() - zones.keys():
        what = f"no RAPL counter for {', '.join(sorted(missing))}"
        raise MeterUnavailableError(what, where=where, remedy="choose 'estimate'")
    return RaplMeter(
        tuple(device.uuid for device in devices),
        {domain: zones[domain] for domain in covers},
        {domain: tuple(uuids) for domain, uuids in covers.items()},
    )


def _open_zones(root: Path, where: str) -> dict[str, list[_Zone]]:
    """The readable zones of each package."""
    found: dict[str, list[_Zone]] = {}
    for folder in sorted((root / "class/powercap").glob("*rapl*:*")):
        counter = folder / "energy_uj"
        if folder.name.startswith(OLDER_INTERFACE) or not counter.exists():
            continue
        package = PACKAGE.fullmatch((folder / "name").read_text().strip())
        if package is None:
            continue  # cores, DRAM or the whole platform: inside a package, or beyond it
        try:
            range_uj = int((folder / "max_energy_range_uj").read_text())
            zone = _Zone(counter, range_uj, int(counter.read_text()), time.monotonic_ns())
        except PermissionError as error:
            raise MeterUnavailableError(f"may not read {counter}", where=where, remedy=REMEDY_UNREADABLE) from error
        except (OSError, ValueError) as error:
            raise _unreadable(folder, error, where) from error
        found.setdefault(f"package-{package[1]}", []).append(zone)
    if not found:
        what = f"no RAPL counter under {root / 'class/powercap'}"
        remedy = "virtual machines rarely have one: choose 'estimate' and state `cpu_w_per_core`"
        raise MeterUnavailableError(what, where=where, remedy=remedy)
    return found


def _unreadable(place: Path, error: Exception, where: str) -> MeterUnavailableError:
    """A container may show /sys in part."""
    return MeterUnavailableError(f"cannot read {place}: {error}", where=where, remedy="choose 'estimate'")


def _package_of(core: int, root: Path) -> int:
    topology = root / f"devices/system/cpu/cpu{core}/topology/physical_package_id"
    return int(topology.read_text())
