"""What the joules of each boundary are of, and what they lack."""

from joulelaw.model.laws.base import Provenance

COVERS = {
    "gpu": "the GPUs",
    "gpu_host_modelled": "the GPUs, and CPUs and memory as a model has them",
    "node_dc": "whole nodes, behind their power supplies",
    "node_ac": "whole nodes, at the socket",
    "cpu_package": "the CPU packages",
    "cpu_modelled": "CPU cores, as stated watts have them",
}
# What a bill has and these joules do not.
LACKS = {
    "gpu": "the host (CPUs, memory, fans, power supplies)",
    "cpu_package": "the rest of the host (memory, disks, fans, power supplies)",
    "cpu_modelled": "the rest of the host (memory, disks, fans, power supplies)",
}


def boundary_warnings(boundary: str, origin: Provenance) -> list[str]:
    """What must be said beside joules of a boundary, of a law of this origin."""
    warnings = []
    if boundary in LACKS:
        warnings.append(f"joules are of boundary {boundary}: {COVERS[boundary]} alone, without {LACKS[boundary]}")
    if boundary == "gpu_host_modelled":
        warnings.append(f"joules are of boundary {boundary}: the host's part was modelled, not metered")
    if not origin.n_trials:
        warnings.append("joules are assumed, from data sheets: no trial stands behind them, and no meter")
    elif origin.energy_is_estimated:
        warnings.append("joules are estimated (watts x time): no meter measured any that this law was made of")
    elif estimated := [name for name, kind in origin.meters if kind == "estimated"]:
        warnings.append(f"joules of some of this law's trials are estimated ({', '.join(estimated)})")
    if stated := [name for name, kind in origin.meters if kind == "stated"]:
        warnings.append(f"joules were taken from a table that names no meter ({', '.join(stated)})")
    if len(origin.meters) > 1:
        warnings.append(f"joules of {len(origin.meters)} meters are taken together: {_meters(origin)}")
    return warnings


def _meters(origin: Provenance) -> str:
    return ", ".join(f"{name} ({kind})" for name, kind in origin.meters)
