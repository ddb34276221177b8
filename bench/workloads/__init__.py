"""What is trained: one file a model family, and the table that names them.

A workload is a module with one function, ``build(configuration, device, root) -> TrainingModel``. It draws its
initial weights from torch's default generator, which the trial seeds, and knows nothing of strategies. To add
one: a file here and a line in `WORKLOADS`.
"""

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from joulelaw import InputError
from joulelaw.bench.configuration import Configuration

if TYPE_CHECKING:  # the table is also read where torch is not installed
    import torch

WORKLOADS = {
    "bert": "joulelaw.bench.workloads.bert",
}


@dataclass(frozen=True)
class TrainingModel:
    """A model ready to train, and what a strategy may know of it."""

    module: "torch.nn.Module"
    """Called as ``module(**batch)``; the result's ``loss`` is the mean over the batch's sequences."""
    blocks: "tuple[torch.nn.Module, ...]"
    """The repeated layers, in the order of use: the parts that may be sharded one at a time."""


class Workload(Protocol):
    """The interface of a workload's module."""

    def build(self, configuration: Configuration, device: "torch.device", root: Path) -> TrainingModel:
        """The model of this configuration in training mode, fp32, on the device. Checkpoints are relative to `root`."""
        ...


def load_workload(model_family: str) -> Workload:
    """The workload of a model family; imports torch.

    Raises:
        InputError: no such model family.
    """
    if model_family not in WORKLOADS:
        raise InputError(f"unknown model family {model_family!r}", remedy=f"one of {', '.join(WORKLOADS)}")
    return cast(Workload, import_module(WORKLOADS[model_family]))
