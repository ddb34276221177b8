"""CPU packages through Linux RAPL: an energy counter a package, shared by the logical devices on its cores.

DRAM and packages without devices are read beside them; the rest of the machine is outside their counters.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from joulelaw.cluster.power import rapl_zones
from joulelaw.cluster.power.meter import DeviceLike, MeterKind, MeterUnavailableError, Reading, Surrounding
from joulelaw.cluster.power.rapl_zones import Host, Zone, describe_zones, open_host, open_zone, package_folders
from joulelaw.cluster.power.sensor import Sensor

REMEDY_UNREADABLE = (
    "Linux lets only root read it since CVE-2020-8694: run `sudo chmod a+r /sys/class/powercap/*/energy_uj` "
    "(lasts until the next boot), or choose 'estimate'"
)


class RaplMeter:
    """The energy counters of CPU packages, each shared by the logical devices on its cores. See `open_rapl`."""

    name = "rapl"
    kind: MeterKind = "measured"
    boundary = "cpu_package"

    def __init__(
        self,
        device_uuids: tuple[str, ...],
        zones: Mapping[str, list[Zone]],
        covers: Mapping[str, tuple[str, ...]],
        beside: Host,
    ) -> None:
        self.device_uuids = device_uuids
        self.covers = covers
        self.description: Mapping[str, str] = {
            **{domain: describe_zones(parts) for domain, parts in zones.items()},
            **beside.description,
        }
        self.surroundings: Mapping[str, Surrounding] = beside.kinds
        self.sensors: Mapping[str, Sensor] = {
            domain: Sensor(counter_tick_s=rapl_zones.TICK_S) for domain in (*zones, *beside.kinds)
        }
        self._zones = zones
        self._beside = beside

    def read(self) -> list[Reading]:
        covered = [rapl_zones.read_zones(domain, zones) for domain, zones in self._zones.items()]
        return covered + self._beside.read()

    def watch(self, device_uuid: str, pids: Sequence[int]) -> None:
        """RAPL meters the package, whoever uses it."""

    def close(self) -> None:
        """Nothing is held between readings."""


def open_rapl(devices: Sequence[DeviceLike], root: Path | None = None) -> RaplMeter:
    """Meter the packages of these devices' cores. `root` stands for /sys.

    Raises MeterUnavailableError without RAPL, where only root may read it, and for a device that is no CPU.
    """
    root = root or rapl_zones.SYS
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
        open_host(root, without=frozenset(covers)),
    )


def _open_zones(root: Path, where: str) -> dict[str, list[Zone]]:
    """The zones of each package, by its domain."""
    found: dict[str, list[Zone]] = {}
    for domain, folder in package_folders(root):
        try:
            found.setdefault(domain, []).append(open_zone(folder))
        except PermissionError as error:
            what = f"may not read {folder / 'energy_uj'}"
            raise MeterUnavailableError(what, where=where, remedy=REMEDY_UNREADABLE) from error
        except (OSError, ValueError) as error:
            raise _unreadable(folder, error, where) from error
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
