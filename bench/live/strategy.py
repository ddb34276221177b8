"""How a live training is spread over its processes, as the laws call it; anything else is refused by name."""

from collections.abc import Iterator
from typing import Any, cast

import torch

from joulelaw import InputError
from joulelaw.bench.spec.configuration import Strategy

ZERO_STAGES = (1, 2, 3)


def unwrapped(model: torch.nn.Module) -> torch.nn.Module:
    """The innermost module: without DDP, FSDP's first version, DeepSpeed's engine, DataParallel or torch.compile."""
    inner: Any = model
    while True:
        within = getattr(inner, "_orig_mod", None)
        if within is None and type(inner).__name__ in _WRAPPERS:
            within = inner.module
        if within is None:
            return cast(torch.nn.Module, inner)
        inner = within


_WRAPPERS = ("DistributedDataParallel", "FullyShardedDataParallel", "DeepSpeedEngine", "DataParallel")


def strategy_of_loop(model: torch.nn.Module, size: int) -> Strategy:
    """Of a model as a plain loop calls it, in so many processes.

    Raises:
        InputError: `where` is strategy: what it is, where the laws do not know it.
    """
    names = {type(each).__name__ for each in _layers_of_wrappers(model)}
    if "DataParallel" in names:
        raise _unknown("DataParallel, threads of one process")
    if "DeepSpeedEngine" in names:
        engine: Any = next(each for each in _layers_of_wrappers(model) if type(each).__name__ == "DeepSpeedEngine")
        offload = [engine.zero_offload_optimizer(), engine.zero_offload_param()]
        return _zero(engine.zero_optimization_stage(), offloads=any(_moves(each) for each in offload))
    if is_sharded(model):
        return _fsdp(model)
    if size == 1:
        return "single"
    if "DistributedDataParallel" in names:
        return "ddp"
    raise _unknown(f"{size} processes, and a model that neither DDP, FSDP nor DeepSpeed has wrapped")


def strategy_of_trainer(model: torch.nn.Module, arguments: Any) -> Strategy:
    """Of a Trainer's model in a process of TrainingArguments `arguments`: by what accelerate has set up.

    Raises:
        InputError: as `strategy_of_loop`.
    """
    from accelerate.state import AcceleratorState, DistributedType

    if arguments.n_gpu > 1:
        raise _unknown("DataParallel, threads of one process (start one a GPU with torchrun)")
    state: Any = AcceleratorState()
    kind = state.distributed_type
    if kind == DistributedType.DEEPSPEED:
        plugin = state.deepspeed_plugin
        config = plugin.deepspeed_config.get("zero_optimization", {})
        offloads = any(_moves(config.get(f"offload_{each}")) for each in ("optimizer", "param"))
        return _zero(int(plugin.zero_stage), offloads=offloads)
    if is_sharded(model):
        return _fsdp(model)
    if arguments.world_size == 1:
        return "single"
    if kind in (DistributedType.MULTI_GPU, DistributedType.MULTI_CPU):
        return "ddp"
    raise _unknown(f"accelerate's {kind.value}")


def is_sharded(model: torch.nn.Module) -> bool:
    """By FSDP, of either version."""
    return any(_is_fsdp(each) for each in model.modules())


def _is_fsdp(module: torch.nn.Module) -> bool:
    from torch.distributed.fsdp import FSDPModule, FullyShardedDataParallel

    return isinstance(module, FSDPModule | FullyShardedDataParallel)


def _fsdp(model: torch.nn.Module) -> Strategy:
    """FSDP as it is counted: everything sharded over all ranks, layer by layer, on the device."""
    from torch.distributed.fsdp import FullyShardedDataParallel, ShardingStrategy

    wrapped = [each for each in model.modules() if _is_fsdp(each)]
    for each in wrapped:
        if isinstance(each, FullyShardedDataParallel):
            if each.sharding_strategy is not ShardingStrategy.FULL_SHARD:
                raise _unknown(f"FSDP with {each.sharding_strategy.name}")
            if each.cpu_offload.offload_params:
                raise _unknown("FSDP with parameters offloaded to the CPU")
    config: Any = getattr(unwrapped(model), "config", None)
    layers = getattr(config, "num_hidden_layers", None)
    if layers is not None and len(wrapped) < layers:
        raise _unknown("FSDP that does not wrap layer by layer")
    return "fsdp"


def _zero(stage: int, *, offloads: bool) -> Strategy:
    if stage not in ZERO_STAGES:
        raise _unknown(f"DeepSpeed with ZeRO stage {stage}")
    if offloads:
        raise _unknown(f"DeepSpeed ZeRO {stage} with offload")
    return cast(Strategy, f"zero{stage}")


def _moves(offload: Any) -> bool:
    """Whether DeepSpeed's description of an offload moves anything."""
    device = offload.get("device") if isinstance(offload, dict) else getattr(offload, "device", None)
    return device is not None and str(getattr(device, "value", device)) != "none"


def _layers_of_wrappers(model: Any) -> Iterator[Any]:
    while model is not None:
        yield model
        model = getattr(model, "_orig_mod", None) or (model.module if type(model).__name__ in _WRAPPERS else None)


def _unknown(what: str) -> InputError:
    return InputError(what, where="strategy", remedy="the laws know single, ddp, fsdp, zero1, zero2 and zero3")
