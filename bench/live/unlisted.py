"""The catalogue entry of a device that the shipped catalogue lacks: the user's, the law's, or measured."""

import datetime
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from joulelaw.bench.dataset.storage import Place
from joulelaw.bench.live.keep import known_devices
from joulelaw.bench.study.probe import bandwidth, link_bytes_per_s, peak, supported
from joulelaw.bench.study.probed_device import device_spec
from joulelaw.bench.training.process_group import Group
from joulelaw.cluster.nodes.inventory import Device
from joulelaw.model.hardware import Catalogue, DeviceSpec, UnknownDevice, read_devices

_PROBE_S = 0.3


def is_listed(model: str) -> bool:
    """Whether the shipped catalogue has it."""
    return _found(model, Catalogue.load()) is not None


def entry_of(model: str, folder: Place | None, files: Sequence[Path], law: Catalogue | None) -> DeviceSpec | None:
    """The entry that is known: of the folder, of the user's files, or of the law, in this order."""
    own = {spec.name: spec for path in files for spec in read_devices(path)}
    theirs = {spec.name: spec for spec in known_devices(folder)}
    found = theirs.get(model) or own.get(model)
    return found or (None if law is None else _found(model, law))


def _found(model: str, catalogue: Catalogue) -> DeviceSpec | None:
    try:
        return catalogue.get(model)
    except UnknownDevice:
        return None


def probed(device: Device, on: torch.device, link: Callable[[], float | None]) -> DeviceSpec:
    """What this process's device does at best, in about two seconds; `link` gives bytes per second, and comes last."""
    before = torch.get_float32_matmul_precision()
    try:
        figures = {
            "peak_flop_per_s": {name: peak(on, name, _PROBE_S) for name in supported(on)},
            "bandwidth_bytes_per_s": bandwidth(on, _PROBE_S),
            "link": "gloo" if on.type == "cpu" else "nccl",
            "link_bytes_per_s": link(),
        }
    finally:
        torch.set_float32_matmul_precision(before)
    today = datetime.datetime.now(datetime.UTC).date()
    return device_spec(figures, device.model, device.memory_bytes, device.power_limit_w, today, device.kind)


def probed_link(rank: int, size: int, on: torch.device) -> float | None:
    """The link between the training's processes, all of which must ask for it; None for one alone."""
    if size == 1:
        return None
    store = torch.distributed.distributed_c10d._get_default_store()
    return link_bytes_per_s(Group(rank, size, on, store), on)
