"""The same software on every node: what is installed on one, whether nodes differ, and what else is worth a word."""

import hashlib
import platform
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

import joulelaw
from joulelaw import InputError

if TYPE_CHECKING:
    from joulelaw.cluster.nodes.inventory import Node
    from joulelaw.cluster.streams.metering import ClockOffset

PACKAGES = ("torch", "ray", "transformers", "deepspeed", "pyarrow")  # what a rank or an actor runs on
SOURCE = "joulelaw source"
ABSENT = "none"
CLOCK_OFF_S = 1.0  # a wall clock beyond this is worth a word: time servers keep machines within milliseconds
_REMEDY = "give every node the same: one image, or one runtime_env for the job (docs/cluster.md)"


@cache
def installed() -> tuple[tuple[str, str], ...]:
    """Name and version of what matters on this machine; imports none of it. "none" for a package that is not there."""
    packages = tuple((name, _version(name)) for name in PACKAGES)
    return (("python", platform.python_version()), (SOURCE, source_hash()), *packages)


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ABSENT


def source_hash() -> str:
    """Of joulelaw's own code and tables: the same on two nodes only where a rank does the same on both."""
    root = Path(joulelaw.__path__[0])
    digest = hashlib.sha256()
    files = [path for part in ("model", "cluster", "bench") for path in (root / part).rglob("*")]
    for path in sorted(path for path in files if path.suffix in (".py", ".toml") and path.is_file()):
        digest.update(f"{path.relative_to(root)}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


def check_same(nodes: Sequence["Node"]) -> None:
    """All nodes have the same software. A build's own mark ("+cu130", "+cpu") does not count, nor what is not known.

    Raises:
        InputError: naming each node that differs from most, the package, and both versions.
    """
    usual = usual_versions(nodes)
    _raise_for([each for node in nodes for each in _differing(node, usual)])


def check_joiner(node: "Node", usual: Mapping[str, str]) -> None:
    """A node that comes later has what those have that the study began with. InputError as of `check_same`."""
    _raise_for(_differing(node, usual))


def usual_versions(nodes: Sequence["Node"]) -> dict[str, str]:
    """The version of each package that most nodes have, without a build's own mark."""
    found: dict[str, Counter[str]] = {}
    for node in nodes:
        for package, seen in node.software:
            found.setdefault(package, Counter())[_plain(seen)] += 1
    return {package: versions.most_common(1)[0][0] for package, versions in found.items()}


def _differing(node: "Node", usual: Mapping[str, str]) -> list[str]:
    return [
        f"node {node.node_id[:6]} has {package} {seen}, others {usual[package]}"
        for package, seen in node.software
        if _plain(seen) != usual.get(package, _plain(seen))
    ]


def _plain(seen: str) -> str:
    return seen.partition("+")[0]


def _raise_for(wrong: Sequence[str]) -> None:
    if wrong:
        raise InputError("; ".join(wrong), where="the nodes' software", remedy=_REMEDY)


def notes(
    nodes: Sequence["Node"], clocks: Mapping[str, "ClockOffset"] | None = None, epoch_ns: int | None = None
) -> list[str]:
    """What does not stop a study but is worth a word: NVML drivers that differ, wall clocks that are off, GPUs that
    another Ray job may mix up.

    `clocks` are the nodes' monotonic clocks against this process's, as `clock_offsets()` gives them; without them
    nothing is said of clocks. `epoch_ns` is this machine's wall clock less its monotonic one; by default as they are.
    """
    epoch_ns = own_epoch_ns() if epoch_ns is None else epoch_ns
    return [*_drivers(nodes), *_numbers(nodes), *_clocks(nodes, clocks or {}, epoch_ns)]


def own_epoch_ns() -> int:
    """When this machine's CLOCK_MONOTONIC was 0, by its wall clock: Unix time in ns."""
    return time.time_ns() - time.monotonic_ns()


def _drivers(nodes: Sequence["Node"]) -> list[str]:
    on: dict[str, list[str]] = {}
    for node in nodes:
        for driver in sorted({device.driver for device in node.devices if device.kind == "cuda"}):
            on.setdefault(driver, []).append(node.node_id[:6])
    if len(on) < 2:
        return []
    found = "; ".join(f"{driver or 'unknown'} on {', '.join(names)}" for driver, names in sorted(on.items()))
    return [
        f"NVML drivers differ: {found}. Readings and clocks may differ with them; each trial's row names its driver"
    ]


def _numbers(nodes: Sequence["Node"]) -> list[str]:
    """CUDA_DEVICE_ORDER is FASTEST_FIRST by default; NVML counts by PCI bus (CUDA C++ Programming Guide, environment
    variables). Our ranks take their GPUs by UUID."""
    return [
        f"node {node.node_id[:6]} has GPUs of several models, and its Ray calls them by numbers, which other Ray jobs "
        "may count in CUDA's own order: they could use a GPU of this study. Where there are such jobs, start that Ray "
        "with CUDA_DEVICE_ORDER=PCI_BUS_ID"
        for node in nodes
        if node.numbered_by_cuda
    ]


def _clocks(nodes: Sequence["Node"], clocks: Mapping[str, "ClockOffset"], epoch_ns: int) -> list[str]:
    found = []
    for node in nodes:
        if node.epoch_ns is None or node.node_id not in clocks:
            continue
        off_s = 1e-9 * (node.epoch_ns + clocks[node.node_id].offset_ns - epoch_ns)
        if abs(off_s) - 1e-9 * clocks[node.node_id].error_ns > CLOCK_OFF_S:
            found.append(
                f"the clock of node {node.node_id[:6]} is {abs(off_s):.1f} s {'ahead' if off_s > 0 else 'behind'}: set "
                "it by a time server. Times in the dataset are of monotonic clocks and stay right"
            )
    return found
