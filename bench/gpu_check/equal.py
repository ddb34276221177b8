"""Training on the device beside the same training on the CPU: same weights, same batches, step for step.

The CPU in fp32 is the truth. A 16-bit run differs from it by rounding, on any device: how far the CPU's own runs in the
same precision do, with one attention or the other, says how far the device's may. TF32, which no CPU has, rounds less
than bf16 and is held to that.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from joulelaw.bench.gpu_check.cases import configuration
from joulelaw.bench.gpu_check.rank import Teller
from joulelaw.bench.gpu_check.training import SEED
from joulelaw.bench.spec.configuration import Attention, Configuration, Precision, TrialSpec
from joulelaw.bench.training.process_group import Group
from joulelaw.bench.training.rank import make_epoch, prepare
from joulelaw.bench.training.rank_state import claim_device
from joulelaw.cluster.ranks.rank import RankContext

STEPS = 8
ATTENTIONS: tuple[Attention, ...] = ("sdpa", "eager")
# So small that rounding stays rounding, yet the steps move the loss by 1e-2. At 1e-3 the CPU's bf16 losses were
# up to 0.4 off, and up to five times as far with one attention as with the other; at 1e-5 up to 3e-3, and 1.5 times.
LEARNING_RATE = 1e-5
# So large that no fp16 gradient overflows: a step left out here and not there would be no rounding. With 4 some did.
BATCH = 16
# Sums in another order move an fp32 loss by some 2e-7 in these steps; 10-bit mantissas by mistake by 2e-5 and more.
FLOOR = 1e-5
TIMES = 3.0
CPU_STAND_IN: dict[Precision, Precision] = {"tf32": "bf16"}


def compare(
    context: RankContext, teller: Teller, family: str, precision: Precision, shape: dict[str, int], compiled: bool
) -> dict[str, Any]:
    """The largest relative difference of the loss from the CPU's in fp32, over the steps, per attention."""
    device, cpu = claim_device(context), torch.device("cpu")
    model = {**shape, "micro_batch_size": BATCH, "sequence_length": 64, "precision": "fp32", "model_family": family}
    asked = configuration(model, vocab_size=1000, learning_rate=LEARNING_RATE)
    truth: dict[Attention, list[float]] = {
        attention: losses(replace(asked, attention=attention), cpu) for attention in ATTENTIONS
    }
    allowed = TIMES * _rounding(asked, CPU_STAND_IN.get(precision, precision), truth) + FLOOR
    arms = {}
    for attention in ATTENTIONS[:1] if compiled else ATTENTIONS:
        tried = replace(asked, attention=attention, precision=precision, torch_compile=compiled)
        found = losses(tried, device)
        off = difference(found, truth[attention])
        arms[attention] = {"difference": off, "allowed": allowed, "equal": off <= allowed, "losses": found}
    return {"attention": arms, "equal": all(arm["equal"] for arm in arms.values())}


def _rounding(asked: Configuration, precision: Precision, truth: dict[Attention, list[float]]) -> float:
    """How far the CPU's losses in this precision are from those in fp32, at most."""
    if precision == "fp32":
        return 0.0
    cpu, rounded = torch.device("cpu"), replace(asked, precision=precision)
    return max(
        difference(losses(replace(rounded, attention=attention), cpu), truth[attention]) for attention in ATTENTIONS
    )


def losses(asked: Configuration, device: torch.device) -> list[float]:
    """Of `STEPS` steps on batches made on the CPU: CUDA's generator would draw others from the same seed."""
    spec, cpu = TrialSpec(asked, seed=SEED), torch.device("cpu")
    stepper, _ = prepare(spec, Group(0, 1, device, None), device, Path())
    epoch = make_epoch(spec, Group(0, 1, cpu, None), cpu, Path())
    found = []
    for step in range(STEPS):
        batch = {name: tensor.to(device) for name, tensor in epoch.step(step)[0].items()}
        found.append(stepper.micro_step(batch, last=True).item())
        stepper.optimizer_step()
    return found


def difference(found: list[float], truth: list[float]) -> float:
    """The largest relative one; infinite where a loss is no number."""
    off = [abs(one - other) / abs(other) for one, other in zip(found, truth, strict=True)]
    return max(off) if all(each == each for each in off) else float("inf")
