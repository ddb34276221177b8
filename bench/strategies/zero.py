"""DeepSpeed ZeRO, stages 1 to 3: Adam's state, then gradients, then parameters sharded over the ranks.

A client AdamW is handed to DeepSpeed, because its own CPU Adam would compile for a minute at first use. bf16 and fp16
hold and communicate 16-bit weights and gradients (p = g = 2) over fp32 master shards; DeepSpeed itself scales fp16's
loss, and its ranks agree on overflow.

With DeepSpeed's defaults a rank sends, counted on 0.19.8, with q = (N-1)/N and k micro-steps a step:
stage 1 q (2 g + p) Psi and stage 2 q (2 k g + p) Psi bytes a step, as gradients are all-reduced even where a
reduce-scatter would do; stage 3 q k (p + g) Psi, as below 1e9 parameters what was gathered for forward is kept for
backward, less q (k-1) p Psi_small, as tensors under 1e5 elements stay gathered for the whole step.
"""

import os
from typing import Any

import torch

from joulelaw.bench.data.batches import Batch
from joulelaw.bench.strategies import Setup
from joulelaw.bench.strategies.loss_scale import INITIAL_SCALE_POWER
from joulelaw.bench.strategies.optimizer import adamw


def prepare(setup: Setup) -> "ZeroStepper":
    """Hands model and optimizer to a DeepSpeed engine. The process group must exist."""
    deepspeed = _import_deepspeed(setup.device.type)
    model = setup.training.module
    engine, *_ = deepspeed.initialize(
        model=model,
        optimizer=adamw(model.parameters(), setup.configuration),
        config=deepspeed_config(setup),
        dist_init_required=False,
    )
    return ZeroStepper(engine, stage_of(setup.configuration.strategy))


def stage_of(strategy: str) -> int:
    """ZeRO's stage from the strategy's name."""
    return int(strategy.removeprefix("zero"))


def deepspeed_config(setup: Setup) -> dict[str, Any]:
    """The DeepSpeed configuration of a trial: DeepSpeed's defaults but for what is named here."""
    configuration = setup.configuration
    return {
        "train_micro_batch_size_per_gpu": configuration.micro_batch_size,
        "gradient_accumulation_steps": configuration.grad_accumulation,
        "zero_optimization": {"stage": stage_of(configuration.strategy)},
        "bf16": {"enabled": configuration.precision == "bf16"},
        "fp16": {"enabled": configuration.precision == "fp16", "initial_scale_power": INITIAL_SCALE_POWER},
        "gradient_clipping": 0.0,  # DeepSpeed's own default is 1, no other strategy clips
        "steps_per_print": 10**9,
    }


class ZeroStepper:
    """Drives the engine's own forward, backward and step; it averages over ranks and micro-steps itself."""

    def __init__(self, engine: Any, stage: int) -> None:
        self._engine = engine
        self._stage = stage

    def micro_step(self, batch: Batch, last: bool) -> torch.Tensor:
        loss: torch.Tensor = self._engine(**batch).loss
        self._engine.backward(loss)
        if not last:
            self._engine.step()  # counts the micro-step; only the last one's updates weights
        return loss.detach()

    def optimizer_step(self) -> None:
        self._engine.step()

    def skipped_steps(self) -> int:
        return int(self._engine.skipped_steps)

    def full_parameters(self) -> dict[str, torch.Tensor]:
        from deepspeed import zero

        parameters = dict(self._engine.module.named_parameters())
        gathering = list(parameters.values()) if self._stage == 3 else []
        with zero.GatheredParameters(gathering):
            return {name: p.detach().float().cpu().clone() for name, p in parameters.items()}


def _import_deepspeed(device_kind: str) -> Any:
    """DeepSpeed for this kind of device, with nothing to compile.

    On a CPU its process group would build a shared-memory operation (50 s of g++); the table of compatible
    operations, which DeepSpeed fills on first use by running compilers, is set to none instead. And it would refuse
    fp16 on processors without fp16 products, where torch computes it all the same, only slower.
    """
    os.environ.setdefault("DS_ACCELERATOR", device_kind)
    import deepspeed

    if device_kind == "cpu":
        deepspeed.ops.__compatible_ops__ = {}
        deepspeed.get_accelerator().is_fp16_supported = lambda: True
    return deepspeed
