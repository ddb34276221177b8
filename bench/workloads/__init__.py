"""What is trained: one file a model family, and the table that names them.

A workload is a module with one function, ``build(configuration, device, root) -> TrainingModel``. It draws its
initial weights from torch's default generator, which the trial seeds, and knows nothing of strategies.

To add a Transformer, train it and count it. Here: a file, a line in `WORKLOADS`, its entry in
`config_keys.CONFIG_KEYS`, and its vocabulary in `spec.axes.VOCABULARY`. In model/: its entry in
`architecture.FAMILIES`, in `kernels.FAMILY_LAUNCHES`, and in `memory.STORED_FFN_TENSORS` and `TEMPORARY_FFN_TENSORS`.
docs/adding.md is a whole example. Recurrent networks are counted by `model/recurrent.py` instead: a family of theirs
has its entry in `recurrent.FAMILIES`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from joulelaw import InputError
from joulelaw.bench.spec.configuration import Configuration

if TYPE_CHECKING:  # the table is also read where torch is not installed
    import torch

WORKLOADS = {
    "bert": "joulelaw.bench.workloads.bert",
    "gpt2": "joulelaw.bench.workloads.gpt2",
    "lstm": "joulelaw.bench.workloads.lstm",
    "gru": "joulelaw.bench.workloads.gru",
}


@dataclass(frozen=True)
class BlockSplit:
    """How ranks may share one block's matrices. Names are relative to the block; what is not named is everyone's."""

    by_columns: tuple[str, ...]
    """Linear layers of which each rank may compute a share of the outputs: whole heads, or inner features."""
    by_rows: tuple[str, ...]
    """Linear layers whose inputs are those shares: the ranks' results add up to the output."""
    fused: Mapping[str, int] = field(default_factory=dict)
    """Of `by_columns`, layers that hold several matrices side by side, and how many: each is shared out on its own."""
    widths: tuple[str, ...] = ()
    """Numbers in the block (``module.attribute``) that must become a rank's share of themselves."""
    transposed: bool = False
    """The weights are inputs x outputs; torch's own linear layers are outputs x inputs."""


@dataclass(frozen=True)
class TrainingModel:
    """A model ready to train, and what a strategy may know of it."""

    module: "torch.nn.Module"
    """Called as ``module(**batch)``; the result's ``loss`` is the mean over sequences or labelled tokens."""
    blocks: "tuple[torch.nn.Module, ...]"
    """The repeated layers, in the order of use: the parts that may be sharded one at a time."""
    split: BlockSplit


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
