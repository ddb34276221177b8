"""Shares each block's matrices out over a mesh's ranks with DTensor, for the tensor-parallel strategies.

Of a column-wise layer a rank holds some outputs, of the row-wise layer behind it the matching inputs; in between, each
rank works on its own heads or inner features. The output of a row-wise layer is all-reduced in the forward pass, the
gradient of a column-wise layer's input in the backward pass.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Placement, Replicate, Shard, distribute_module, distribute_tensor

from joulelaw import InputError
from joulelaw.bench.spec.configuration import Configuration
from joulelaw.bench.workloads import BlockSplit, TrainingModel


def check_degree(configuration: Configuration) -> None:
    """Raises InputError where the tensor-parallel degree divides the heads or the inner features unevenly."""
    degree = configuration.tensor_parallel
    for axis, count in (("num_heads", configuration.num_heads), ("intermediate_size", configuration.intermediate_size)):
        if count % degree:
            remedy = f"a tensor-parallel degree that divides {count}"
            raise InputError(f"{axis} of {count} over {degree} tensor-parallel ranks", where=axis, remedy=remedy)


def split_blocks(training: TrainingModel, mesh: DeviceMesh) -> None:
    """Shares out every block over a one-dimensional mesh, in place. All ranks must hold the same weights."""
    split, degree = training.split, mesh.size()
    outputs, inputs = (1, 0) if split.transposed else (0, 1)
    for block in training.blocks:
        for name in split.by_columns:
            layer = block.get_submodule(name)
            if name in split.fused:
                _regroup(layer, split.fused[name], degree)
            _distribute(layer, mesh, _Placements(Shard(outputs), Shard(0), Replicate(), Shard(-1)))
        for name in split.by_rows:
            layer = block.get_submodule(name)
            _distribute(layer, mesh, _Placements(Shard(inputs), Replicate(), Shard(-1), Replicate()))
        for name in split.widths:
            owner, _, attribute = name.rpartition(".")
            module = block.get_submodule(owner)
            setattr(module, attribute, getattr(module, attribute) // degree)


def whole_parameters(training: TrainingModel, degree: int) -> dict[str, torch.Tensor]:
    """Every parameter whole, fp32, on the CPU, fused ones in their own order. Every rank must call it."""
    parts = {id(p): count for layer, count in _fused_layers(training) for p in layer.parameters()}
    whole = {}
    for name, parameter in training.module.named_parameters():
        full = parameter.full_tensor() if isinstance(parameter, DTensor) else parameter
        if id(parameter) in parts:
            full = interleaved(full.detach(), degree, parts[id(parameter)])
        whole[name] = full.detach().float().cpu().clone()
    return whole


def same_mesh_groups(module: torch.nn.Module) -> list[dict[str, Any]]:
    """The parameters by the mesh they are spread over: a fused optimizer cannot take two kinds in one call."""
    groups: dict[DeviceMesh | None, list[torch.nn.Parameter]] = {}
    for parameter in module.parameters():
        mesh = parameter.device_mesh if isinstance(parameter, DTensor) else None
        groups.setdefault(mesh, []).append(parameter)
    return [{"params": parameters} for parameters in groups.values()]


def interleaved(tensor: torch.Tensor, outer: int, inner: int) -> torch.Tensor:
    """The last dimension, of `outer` groups with `inner` parts each, as `inner` groups with `outer` parts each."""
    return tensor.reshape(*tensor.shape[:-1], outer, inner, -1).transpose(-3, -2).reshape(tensor.shape)


def _fused_layers(training: TrainingModel) -> Iterator[tuple[torch.nn.Module, int]]:
    split: BlockSplit = training.split
    for block in training.blocks:
        for name, count in split.fused.items():
            yield block.get_submodule(name), count


def _regroup(layer: torch.nn.Module, parts: int, degree: int) -> None:
    """Orders the outputs q k v of all ranks as q k v of the first rank, then of the second: a plain shard has each."""
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(interleaved(parameter, parts, degree))


@dataclass(frozen=True)
class _Placements:
    """How a layer's tensors lie over the ranks."""

    weight: Placement
    bias: Placement
    given: Placement
    returned: Placement


def _distribute(layer: torch.nn.Module, mesh: DeviceMesh, placements: _Placements) -> None:
    """Shards a layer's parameters; it takes and returns plain tensors, a rank's own part of them."""

    def shard(_: str, module: torch.nn.Module, mesh: DeviceMesh) -> None:
        for name, parameter in list(module.named_parameters()):
            placement = getattr(placements, name)
            local = distribute_tensor(parameter.data, mesh, [placement], src_data_rank=None)
            module.register_parameter(name, torch.nn.Parameter(local))

    def enter(_: torch.nn.Module, inputs: tuple[torch.Tensor, ...], mesh: DeviceMesh) -> DTensor:
        (local,) = inputs
        return DTensor.from_local(local, mesh, [placements.given], run_check=False)

    def leave(_: torch.nn.Module, output: DTensor, mesh: DeviceMesh) -> torch.Tensor:
        return output.redistribute(placements=[placements.returned]).to_local()

    # torch's own styles pass hooks that return a value, too; its annotation says None.
    distribute_module(layer, mesh, shard, enter, leave)  # type: ignore[arg-type]
