"""Whether a configuration can run on a device model at all: precision and memory."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from joulelaw import InputError
from joulelaw.bench.configuration import Configuration
from joulelaw.bench.precision import TRAINABLE
from joulelaw.cluster.inventory import Device, Node
from joulelaw.model.hardware import Catalogue

# What drivers, allocators and the framework's own buffers leave of a device's memory.
USABLE_MEMORY = 0.92


@dataclass(frozen=True)
class Misfit:
    """Why a configuration cannot run, the axis to change, and how."""

    axis: str
    reason: str
    remedy: str
    missing_bytes: float = float("inf")


def misfit(
    asked: Configuration, counts: Mapping[str, float], nodes: Sequence[Node], catalogue: Catalogue
) -> Misfit | None:
    """Why `asked` cannot run on its device model; None where it can. `counts` is its row of `parallelism.counts`."""
    device = smallest(nodes, asked.gpu_model)
    trainable = [each for each in TRAINABLE[device.kind] if each in catalogue.get(asked.gpu_model).peak_flop_per_s]
    if asked.precision not in trainable:
        reason = f"{asked.gpu_model} cannot train in {asked.precision}"
        return Misfit("precision", reason, f"one of {', '.join(trainable)}")
    needed, usable = counts["memory_bytes_per_device"], USABLE_MEMORY * device.memory_bytes
    if needed > usable:
        ways = "" if asked.gpu_count == 1 else f" with {asked.strategy} on {asked.gpu_count}"
        shape = f"{asked.num_layers} layers of width {asked.hidden_size}, {asked.micro_batch_size} x "
        reason = (
            f"{shape}{asked.sequence_length} tokens{ways} needs {_gib(needed)} a device, "
            f"{asked.gpu_model} has {_gib(usable)} to use"
        )
        remedy = "make the model or the micro-batch smaller, or shard it over more devices"
        return Misfit(_largest_axis(asked), reason, remedy, needed - usable)
    return None


def smallest(nodes: Sequence[Node], model: str) -> Device:
    """The device of this model with the least memory: a trial may be placed on any of them."""
    found = [device for node in nodes for device in node.devices if device.model == model]
    if not found:
        raise InputError(f"no node has a {model!r}", where="gpu_model", remedy="see `joulelaw doctor`")
    return min(found, key=lambda device: device.memory_bytes)


def _largest_axis(asked: Configuration) -> str:
    """Where to point: the width and depth where the parameters are what is large, else the batch."""
    parameters = 12 * asked.num_layers * asked.hidden_size**2 + asked.vocab_size * asked.hidden_size
    activations = asked.num_layers * asked.micro_batch_size * asked.sequence_length * asked.hidden_size * 34
    return "hidden_size" if 16 * parameters > activations else "micro_batch_size"


def _gib(size: float) -> str:
    return f"{size / 2**30:,.1f} GiB"
