"""One process that times operations: the entry of a gang of one device, as a trial's ranks are.

For each configuration it emits the parts of a micro-step, isolated, and the whole one beside them. Knows torch, not
Ray.
"""

from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from joulelaw.bench.data.batches import Batch
from joulelaw.bench.data.source import make_source
from joulelaw.bench.operations.recurrent import recurrent_operations
from joulelaw.bench.operations.timing import WHOLE, Operation, Part, time_operation, timed
from joulelaw.bench.operations.transformer import transformer_operations
from joulelaw.bench.spec.configuration import Configuration
from joulelaw.bench.strategies import Setup, Stepper, load_strategy
from joulelaw.bench.strategies.optimizer import adamw
from joulelaw.bench.training.precision import autocast, check_precision, set_matmul_precision
from joulelaw.bench.training.rank_state import claim_device, collector_off
from joulelaw.bench.workloads import TrainingModel, load_workload
from joulelaw.cluster.ranks.rank import RankContext
from joulelaw.model import recurrent


def run_operations(payload: dict[str, Any], context: RankContext) -> None:
    """Emits a `parts` event for each of ``payload["configurations"]`` (`Configuration.to_dict`), in their order.

    What a device has no memory for is emitted as `skipped`.
    """
    device = claim_device(context)
    context.emit({"kind": "ready"})
    with collector_off():
        for values in payload["configurations"]:
            configuration = Configuration.from_dict(values)
            check_precision(configuration.precision, context.device_kind)
            try:
                found = [
                    asdict(part) for part in time_parts(configuration, device, Path(payload["root"]), context.emit)
                ]
            except torch.OutOfMemoryError as error:
                found, reason = [], str(error).splitlines()[0]
                context.emit({"kind": "skipped", "id": configuration.configuration_id, "reason": reason})
            else:
                context.emit({"kind": "parts", "id": configuration.configuration_id, "parts": found})
            if device.type == "cuda":
                torch.cuda.empty_cache()


def time_parts(
    configuration: Configuration, device: torch.device, root: Path, emit: Callable[[dict[str, Any]], None]
) -> list[Part]:
    """Every operation alone, forward and backward; the optimizer; then the whole forward pass and micro-step.

    After each operation a sign of life is emitted.
    """
    set_matmul_precision(configuration.precision)
    torch.manual_seed(0)
    training = load_workload(configuration.model_family).build(configuration, device, root)
    stepper = load_strategy(configuration.strategy).prepare(Setup(training, configuration, device, 1))
    batch = make_source(configuration, 0, device, root).global_batch(0, 0)
    parts: list[Part] = []
    for operation in operations(training, configuration, batch, device):
        parts += time_operation(operation, configuration.precision, device)
        emit({"kind": "alive"})
    parts.append(_optimizer(training, configuration, device))
    return [*parts, *_whole(training, stepper, configuration, batch, device)]


def operations(
    training: TrainingModel, configuration: Configuration, batch: Batch, device: torch.device
) -> Iterator[Operation]:
    """All operations of a forward pass, P2's among them."""
    of: Callable[..., Iterator[Operation]] = transformer_operations
    if configuration.model_family in recurrent.FAMILIES:
        of = recurrent_operations
    return of(training, configuration, batch, device)


def _optimizer(training: TrainingModel, configuration: Configuration, device: torch.device) -> Part:
    """One step of AdamW over gradients of zero."""
    parameters = list(training.module.parameters())
    for parameter in parameters:
        parameter.grad = torch.zeros_like(parameter)
    optimizer = adamw(parameters, replace(configuration, learning_rate=1e-12))
    duration_s, count = timed(optimizer.step, device)
    optimizer.zero_grad(set_to_none=True)
    return Part("optimizer", "step", sum(parameter.numel() for parameter in parameters), 1, duration_s, count)


def _whole(
    training: TrainingModel, stepper: Stepper, configuration: Configuration, batch: Batch, device: torch.device
) -> list[Part]:
    """The forward pass of the whole model, and a trial's own micro-step, each from gradients that are not there."""

    def forward() -> object:
        with autocast(configuration.precision, device):
            return training.module(**batch).loss

    def clear() -> None:
        for parameter in training.module.parameters():
            parameter.grad = None

    found = []
    for phase, work in (("forward", forward), ("both", lambda: stepper.micro_step(batch, last=True))):
        duration_s, count = timed(work, device, clear)
        found.append(Part(WHOLE, phase, 0.0, 1, duration_s, count))
    return found
