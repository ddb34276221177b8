"""One operation alone, timed: warmed up, each call between synchronizations, the median of repeats."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from joulelaw.bench.spec.configuration import Precision
from joulelaw.bench.training.precision import autocast
from joulelaw.bench.training.rank_state import synchronize

# Calls of one timing: for at least MIN_S and FEWEST of them, but none begins later than MAX_S.
MIN_S, MAX_S, FEWEST = 0.1, 2.0, 5
WHOLE = "micro_step"  # the part that is all of it


@dataclass(frozen=True)
class Operation:
    """A part of a forward pass, on tensors of the shapes and types that it has there."""

    name: str
    flop: float
    """Of one call, forward. Where no matrices are multiplied, one FLOP a value that is written."""
    calls: int
    """In the forward pass of one micro-batch; 0: it is timed, but this model runs another in its place."""
    run: Callable[..., torch.Tensor | tuple[torch.Tensor, ...]]
    inputs: Sequence[torch.Tensor]
    parameters: Sequence[torch.Tensor] = ()
    """What else gets a gradient."""


@dataclass(frozen=True)
class Part:
    """What was timed of a micro-step, and how often the micro-step does it."""

    operation: str
    phase: str
    """forward, backward, or step (the optimizer's)."""
    flop: float
    calls: int
    duration_s: float
    timed_calls: int


def timed(
    work: Callable[[], object], device: torch.device, after: Callable[[], object] | None = None
) -> tuple[float, int]:
    """The median duration of a call in seconds, and of how many; `after` follows each call, and is not timed."""
    _once(work, device, after)  # libraries set themselves up, and caches fill
    durations = [_once(work, device, after)]
    while (sum(durations) < MIN_S or len(durations) < FEWEST) and sum(durations) < MAX_S:
        durations.append(_once(work, device, after))
    return statistics.median(durations), len(durations)


def time_operation(operation: Operation, precision: Precision, device: torch.device) -> list[Part]:
    """Its forward call and its backward one, each alone. Under autocast, a weight is cast anew in each call."""
    inputs = [each.detach().requires_grad_(each.is_floating_point()) for each in operation.inputs]

    def forward() -> tuple[torch.Tensor, ...]:
        with autocast(precision, device):
            found = operation.run(*inputs)
        return found if isinstance(found, tuple) else (found,)

    duration_s, count = timed(forward, device)
    parts = [Part(operation.name, "forward", operation.flop, operation.calls, duration_s, count)]
    outputs = forward()
    wanted = [each for each in (*inputs, *operation.parameters) if each.requires_grad]
    gradients = [torch.ones_like(each) for each in outputs]

    def backward() -> object:
        return torch.autograd.grad(outputs, wanted, gradients, retain_graph=True, allow_unused=True)

    duration_s, count = timed(backward, device)
    return [*parts, Part(operation.name, "backward", 2 * operation.flop, operation.calls, duration_s, count)]


def _once(work: Callable[[], object], device: torch.device, after: Callable[[], object] | None) -> float:
    synchronize(device)
    began = time.perf_counter()
    kept = work()
    synchronize(device)
    duration_s = time.perf_counter() - began
    del kept
    if after is not None:
        after()
    return duration_s
