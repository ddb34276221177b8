"""A live training's configuration, read off the model itself; what the laws do not count is refused by name."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch

from joulelaw import InputError
from joulelaw.bench.live.piece import Micro
from joulelaw.bench.spec.configuration import Attention, Configuration, Head, Precision, Strategy
from joulelaw.bench.workloads.config_keys import CONFIG_KEYS
from joulelaw.model.parallelism import STRATEGIES

ATTENTIONS = ("sdpa", "eager")
# By the names of their classes: FusedAdam is DeepSpeed's and Apex's.
OPTIMIZERS = ("AdamW", "Adam", "FusedAdam")
_NAMES: dict[torch.dtype, Precision] = {
    torch.float32: "fp32",
    torch.float16: "fp16",
    torch.bfloat16: "bf16",
}


@dataclass(frozen=True)
class Trained:
    """What is trained, and how: the innermost module, its strategy and its optimizer."""

    model: torch.nn.Module
    strategy: Strategy
    optimizer: Any
    device: torch.device
    compiled: bool = False


@dataclass(frozen=True)
class Place:
    """Where: devices of one model on so many nodes."""

    gpu_model: str
    gpu_count: int
    node_count: int = 1


def configuration_of(trained: Trained, place: Place, micro: Micro, compute: torch.dtype | None) -> Configuration:
    """The configuration of a training whose steps are like `micro`, and whose products are computed in `compute` (None:
    none was seen, and it is what the parameters are).

    Raises:
        InputError: `where` says of what, in the words of the sweep: a model, setting, precision or optimizer that is
            not counted.
    """
    model: Any = trained.model
    family, config = _family(model)
    sizes = CONFIG_KEYS[family].sizes(config)
    _check_optimizer(trained.optimizer)
    if frozen := sum(not each.requires_grad for each in model.parameters()):
        what = f"{frozen} of its parameters are frozen, and the laws count training all of them"
        raise InputError(what, where="model")
    if not micro.batch:
        raise InputError("the model was called without input_ids", where="model", remedy="name them as a keyword")
    return Configuration(
        gpu_model=place.gpu_model,
        gpu_count=place.gpu_count,
        node_count=place.node_count,
        strategy=trained.strategy,
        model_family=family,
        **sizes,
        sequence_length=micro.length,
        micro_batch_size=micro.batch,
        grad_accumulation=micro.steps,
        precision=_precision(trained, compute),
        num_labels=int(model.config.num_labels),
        dropout=_dropout(model, family),
        attention=_attention(model),
        learning_rate=float(trained.optimizer.param_groups[0]["lr"]) if trained.optimizer is not None else 0.0,
        head=_head(model, family),
        activation_checkpointing=_checkpoints(model),
        torch_compile=trained.compiled,
    )


def _family(model: Any) -> tuple[str, dict[str, Any]]:
    config = getattr(model, "config", None)
    family = getattr(config, "model_type", None)
    if family not in CONFIG_KEYS:
        what = f"{type(model).__name__} is " + (f"a {family} model" if family else "no model of transformers")
        raise InputError(what, where="model", remedy=f"the laws count {' and '.join(CONFIG_KEYS)} of transformers")
    settings: dict[str, Any] = config.to_dict() if config is not None else {}
    try:
        CONFIG_KEYS[family].check(settings)
    except InputError as error:
        raise InputError(error.what, where="model", remedy=error.remedy) from None
    for key in ("quantization_config", "pruned_heads"):
        if settings.get(key):
            raise InputError(f"it has {key}", where="model", remedy="the laws count plain models")
    return str(family), settings


def _head(model: Any, family: str) -> Head:
    """By the classes that studies train."""
    from joulelaw.bench.workloads import load_workload

    heads = cast(Any, load_workload(family)).FAMILY.heads
    for name, kind in heads.items():
        if isinstance(model, kind):
            return cast(Head, name)
    known = " and ".join(kind.__name__ for kind in heads.values())
    raise InputError(f"the head of {type(model).__name__}", where="model", remedy=f"the laws count those of {known}")


def _attention(model: Any) -> Attention:
    named = getattr(model.config, "_attn_implementation", None)
    if named not in ATTENTIONS:
        raise InputError(f"{named!r}", where="attention", remedy=f"the laws count {' and '.join(ATTENTIONS)}")
    return cast(Attention, named)


def _dropout(model: Any, family: str) -> float:
    """That of the hidden states. The counts ask only whether there is any."""
    from joulelaw.bench.workloads import load_workload

    names: Sequence[str] = cast(Any, load_workload(family)).FAMILY.dropouts
    return float(getattr(model.config, names[0], None) or 0.0)


def _checkpoints(model: Any) -> bool:
    """By the library's name for it, or the one that it had in 5.17."""
    names = ("is_activation_checkpointing", "is_gradient_checkpointing")
    return bool(getattr(model, next((name for name in names if hasattr(type(model), name)), ""), False))


def _precision(trained: Trained, compute: torch.dtype | None) -> Precision:
    """What products are computed in, if the weights are held as the strategy's counts have them."""
    held = {each.dtype for each in trained.model.parameters() if each.is_floating_point()}
    compute = compute or next(iter(held), torch.float32)
    if compute not in _NAMES:
        raise InputError(str(compute), where="precision", remedy=f"the laws count {', '.join(_NAMES.values())}")
    allowed = {torch.float32} if STRATEGIES[trained.strategy].autocasts else {torch.float32, compute}
    if not held <= allowed:
        names = ", ".join(sorted(str(each).removeprefix("torch.") for each in held))
        what = f"weights in {names}: with {trained.strategy} the laws count fp32 weights, cast for each product"
        raise InputError(what, where="precision", remedy="train in mixed precision (bf16=True, or torch.autocast)")
    if compute is torch.float32 and trained.device.type == "cuda" and _uses_tf32():
        return "tf32"
    return _NAMES[compute]


def _uses_tf32() -> bool:
    return torch.get_float32_matmul_precision() != "highest"


def _check_optimizer(optimizer: Any) -> None:
    """The one that does the work, within accelerate's and DeepSpeed's."""
    inner = optimizer
    while inner is not None and type(inner).__name__ not in OPTIMIZERS and hasattr(inner, "optimizer"):
        inner = inner.optimizer
    if inner is None or type(inner).__name__ not in OPTIMIZERS:
        name = "an optimizer that is not known" if inner is None else type(inner).__name__
        raise InputError(name, where="optimizer", remedy="the laws count AdamW")


def num_parameters(model: torch.nn.Module) -> int | None:
    """Of the whole model, also where ZeRO or FSDP2 have sharded it; None of FSDP's first version, which hides them."""
    if any(type(each).__name__ == "FullyShardedDataParallel" for each in model.modules()):
        return None
    return sum(int(getattr(each, "ds_numel", each.numel())) for each in model.parameters())
