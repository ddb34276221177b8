"""From a measured live training to its row in a dataset folder; what it cannot be in there is said by name."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from joulelaw import InputError
from joulelaw.bench.live.configuration import Place, Trained, configuration_of, num_parameters
from joulelaw.bench.live.keep import keep
from joulelaw.bench.live.measured import Measured
from joulelaw.bench.live.options import LiveOptions
from joulelaw.bench.live.row import Around, row_of
from joulelaw.bench.live.unlisted import entry_of, is_listed, probed
from joulelaw.bench.study.environment import describe_environment
from joulelaw.cluster.nodes.inventory import Device, inspect_node
from joulelaw.cluster.nodes.topology import worst_link
from joulelaw.model.hardware import Catalogue, DeviceSpec


@dataclass(frozen=True)
class Saving:
    """What the row is made of beside the measurement. `law` is the catalogue of the law, where one was named."""

    trained: Trained
    options: LiveOptions
    compute: torch.dtype | None
    around: Around
    law: Catalogue | None


def place_of(devices: Sequence[Device], nodes: int) -> Place:
    """Raises InputError where the devices are of several models, which no row can say."""
    models = sorted({device.model for device in devices})
    if len(models) > 1:
        raise InputError(f"devices of several models: {', '.join(models)}", where="gpu_model", remedy="train on one")
    return Place(models[0], len(devices), nodes)


def row_to_save(saving: Saving, measured: Measured) -> dict[str, Any]:
    """The row of TRIALS. Raises InputError, naming what is not counted."""
    devices = [device for node in measured.nodes for device in node.devices]
    first = measured.windows[0][0].micro
    micro = first._replace(
        length=measured.longest_sequence, batch=max(each.micro.batch for steps in measured.windows for each in steps)
    )
    place = place_of(devices, len(measured.nodes))
    configuration = configuration_of(saving.trained, place, micro, saving.compute)
    row = row_of(measured, configuration, saving.around)
    node = inspect_node(measured.nodes[0].host)
    uuids = [device.uuid for device in measured.nodes[0].devices if device.kind == "cuda"]
    return row | {"link": worst_link(node, uuids), "num_parameters": num_parameters(saving.trained.model)}


def entry_to_save(saving: Saving, device: Device, link: Callable[[], float | None]) -> DeviceSpec | None:
    """The device's entry for the folder, without which fits would refuse the row; None where every reader has it.

    What nothing lists is measured; `link` then gives that between the training's processes.
    """
    if is_listed(device.model):
        return None
    options = saving.options
    known = entry_of(device.model, options.folder, options.device_files, saving.law)
    return known or probed(device, saving.trained.device, link)


def save(saving: Saving, measured: Measured, row: dict[str, Any], entry: DeviceSpec | None) -> str:
    """Adds it to the folder, and returns its trial_id. InputError where the folder takes nothing."""
    folder = saving.options.folder
    assert folder is not None
    node = inspect_node(measured.nodes[0].host)
    environment = describe_environment([node])
    return keep(folder, row, measured, environment, entry, saving.around.started_at)
