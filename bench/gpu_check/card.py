"""The device that is checked: the first GPU, or, for a dry run whose figures mean nothing, the first logical one."""

from dataclasses import dataclass, replace
from pathlib import Path

from joulelaw import InputError
from joulelaw.bench.study.folder import default_folder
from joulelaw.bench.training.precision import trainable
from joulelaw.cluster.nodes.inventory import Device, Node, cuda_devices, inspect_node
from joulelaw.cluster.power.meter import MeterOptions
from joulelaw.cluster.power.nvml import nvml_problem

NAME = "gpu_check"
DRY = "dry-run-without-a-gpu"
# Any wattage will do to see that an estimate comes through.
DRY_WATTS = 10.0


@dataclass(frozen=True)
class Card:
    """A device of this machine, and the node as if it had no other."""

    device: Device
    node: Node
    dry: bool

    @property
    def precisions(self) -> tuple[str, ...]:
        """What it can train in; a dry run needs no more than two."""
        if self.dry:
            return ("fp32", "bf16")
        return trainable(self.device.kind, self.device.compute_capability)

    @property
    def meter_options(self) -> MeterOptions:
        """NVML and nothing else for a GPU: a figure of a GPU is never an estimate."""
        return MeterOptions(kind="estimate", cpu_w_per_core=DRY_WATTS) if self.dry else MeterOptions(kind="nvml")

    def folder(self, into: Path | None) -> Path:
        """Where results go: results/<device>/gpu_check, or below `into`; of a dry run below a name that tells it."""
        if self.dry:
            return (into or Path("build")) / DRY
        return into if into is not None else default_folder((self.node,), NAME)


def find_card(kind: str) -> Card:
    """The first device of a kind, "cuda" or "cpu".

    Raises:
        InputError: there is no GPU, or one that cannot be asked; a dry run on a machine that has one.
    """
    if kind == "cuda" and not cuda_devices():
        what = f"no NVIDIA GPU here ({nvml_problem() or 'NVML shows none'})"
        raise InputError(what, where="--device", remedy="cpu is a dry run: it tries the program, and measures nothing")
    node = inspect_node()
    device = node.devices[0]
    if kind == "cpu" and device.kind != "cpu":
        raise InputError("a dry run where there is a GPU", where="--device", remedy="leave it out")
    return Card(device, replace(node, devices=(device,)), dry=kind == "cpu")
