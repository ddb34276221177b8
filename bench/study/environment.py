"""What a study ran on, saved with it: versions, processors, devices, links, drivers, power limits, commit.

Results are published, so nothing here tells who ran it or where: no user, host or network names, no paths, no
environment variables but a few numbers that change how fast a trial runs.
"""

import os
import platform
import re
import subprocess
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from joulelaw import __version__
from joulelaw.bench.training.preload import ENVIRONMENT
from joulelaw.cluster.nodes.inventory import Device, Node

PACKAGES = (
    "accelerate",
    "deepspeed",
    "numpy",
    "nvidia-ml-py",
    "pandas",
    "pyarrow",
    "pydantic",
    "ray",
    "scipy",
    "tokenizers",
    "torch",
    "transformers",
)
# Thread counts and switches only: each is recorded if its value is a plain number.
NUMERIC_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NVIDIA_TF32_OVERRIDE",
    "CUDA_LAUNCH_BLOCKING",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
)
_ROOT = Path(__file__).resolve().parents[2]


def describe_environment(nodes: Sequence[Node]) -> dict[str, Any]:
    """The environment as plain JSON data. Absent packages, and a commit outside a git checkout, are None."""
    return {
        "joulelaw": __version__,
        "git": git_state(_ROOT),
        "python": platform.python_version(),
        "python_implementation": platform.python_implementation(),
        "os": platform.system(),
        "kernel": _kernel(),
        "distribution": _distribution(),
        "packages": {name: package_version(name) for name in PACKAGES},
        "variables": {name: os.environ[name] for name in NUMERIC_VARIABLES if os.environ.get(name, "").isdecimal()},
        "rank_variables": ENVIRONMENT,
        "nodes": [describe_node(node) for node in nodes],
    }


def package_version(name: str) -> str | None:
    """An installed distribution's version, without importing it."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def git_state(folder: Path) -> dict[str, Any] | None:
    """The commit of the checkout at `folder` and whether its tracked files were changed; None outside a checkout."""
    if not (folder / ".git").exists():
        return None  # an installed copy may lie inside some other project's checkout
    commit = _git(folder, "rev-parse", "HEAD")
    changed = _git(folder, "status", "--porcelain", "--untracked-files=no")
    if commit is None:
        return None
    return {"commit": commit, "changed": None if changed is None else bool(changed)}


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _kernel() -> str:
    """The kernel's release without what a builder appended to it, which may be a name."""
    found = re.match(r"\d+(\.\d+)*", platform.release())
    return found.group() if found else ""


def _distribution() -> str:
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        return ""
    return f"{release.get('NAME', '')} {release.get('VERSION_ID', '')}".strip()


def describe_node(node: Node) -> dict[str, Any]:
    """A node's inventory. Its host's name is there as a hash only, its address not at all; devices go by index."""
    return {
        "node_id": node.node_id,
        "host": node.hostname_hash,
        "cpu_model": node.cpu_model,
        "cpu_count": node.cpu_count,
        "memory_bytes": node.memory_bytes,
        "software": dict(node.software),
        "devices": [_device(device) for device in node.devices],
        "links": _links(node),
    }


def _device(device: Device) -> dict[str, Any]:
    return {
        "gpu_model": device.model,
        "kind": device.kind,
        "index": device.index,
        "memory_bytes": device.memory_bytes,
        "cores": list(device.cores),
        "power_limit_w": device.power_limit_w,
        "driver": device.driver,
        "compute_capability": device.compute_capability and list(device.compute_capability),
        "pcie_generation": device.pcie and device.pcie[0],
        "pcie_lanes": device.pcie and device.pcie[1],
    }


def _links(node: Node) -> list[dict[str, Any]]:
    """Between the node's devices that the study may use."""
    index = {device.uuid: device.index for device in node.devices}
    return [
        {"between": sorted((index[link.one], index[link.other])), "kind": link.kind, "lanes": link.lanes}
        for link in node.links
        if link.one in index and link.other in index
    ]
