"""Whether a configuration can run on a device model at all: precision and memory."""

from collections.abc import Sequence
from dataclasses import dataclass

from joulelaw.bench.plan.price import counted
from joulelaw.bench.spec.configuration import Configuration
from joulelaw.bench.training.precision import trained_in
from joulelaw.cluster.nodes.inventory import Device, Node
from joulelaw.model.hardware import Catalogue

# What drivers, allocators and the framework's own buffers leave of a device's memory.
USABLE_MEMORY = 0.92
# What ordinary steps hold, beside what the closed form counts: see `model.memory` on glibc's heap and its holes.
CPU_HEAP_FACTOR = 2.0


@dataclass(frozen=True)
class Misfit:
    """Why a configuration cannot run, the axis to change, and how. `kind` sums up many of them in a few words."""

    axis: str
    reason: str
    remedy: str
    kind: str
    missing_bytes: float = float("inf")


def misfits(asked: Sequence[Configuration], nodes: Sequence[Node], catalogue: Catalogue) -> list[Misfit | None]:
    """Why each configuration cannot run on its device model; None where it can."""
    smallest = _smallest(nodes)
    found = {each: _untrainable(each, smallest[each.gpu_model], catalogue) for each in asked}
    countable = [configuration for configuration, why in found.items() if why is None]
    for configuration, row in zip(countable, counted(countable, catalogue), strict=True):
        found[configuration] = _too_large(
            configuration, row["memory_bytes_per_device"], smallest[configuration.gpu_model]
        )
    return [found[configuration] for configuration in asked]


def _untrainable(asked: Configuration, device: Device, catalogue: Catalogue) -> Misfit | None:
    trainable = trained_in(device.kind, catalogue.get(asked.gpu_model).peak_flop_per_s)
    if asked.precision in trainable:
        return None
    reason = f"{asked.gpu_model} cannot train in {asked.precision}"
    return Misfit("precision", reason, f"one of {', '.join(trainable)}", reason)


def _too_large(asked: Configuration, needed_bytes: float, device: Device) -> Misfit | None:
    usable_bytes = USABLE_MEMORY * device.memory_bytes
    holes = ""
    if device.kind == "cpu":
        needed_bytes, holes = CPU_HEAP_FACTOR * needed_bytes, " with the holes in its heap"
    if needed_bytes <= usable_bytes:
        return None
    way = f"with {asked.strategy} on {asked.gpu_count}" if asked.gpu_count > 1 else "on one device"
    reason = (
        f"{asked.num_layers} layers of width {asked.hidden_size}, {asked.micro_batch_size} x {asked.sequence_length} "
        f"tokens {way} need {_gib(needed_bytes)} a device{holes}, {asked.gpu_model} has {_gib(usable_bytes)} to use"
    )
    remedy = "make the model or the micro-batch smaller, or shard it over more devices"
    kind = f"more memory than the {_gib(usable_bytes)} that {asked.gpu_model} has to use"
    return Misfit(_largest_axis(asked), reason, remedy, kind, needed_bytes - usable_bytes)


def _smallest(nodes: Sequence[Node]) -> dict[str, Device]:
    """Of each model the device with the least memory: a trial may be placed on any of them."""
    found: dict[str, Device] = {}
    for device in (device for node in nodes for device in node.devices):
        if device.model not in found or device.memory_bytes < found[device.model].memory_bytes:
            found[device.model] = device
    return found


def _largest_axis(asked: Configuration) -> str:
    """Where to point: the width and depth where the parameters are what is large, else the batch."""
    parameters = 12 * asked.num_layers * asked.hidden_size**2 + asked.vocab_size * asked.hidden_size
    activations = asked.num_layers * asked.micro_batch_size * asked.sequence_length * asked.hidden_size * 34
    return "hidden_size" if 16 * parameters > activations else "micro_batch_size"


def _gib(size: float) -> str:
    return f"{size / 2**30:,.1f} GiB"
