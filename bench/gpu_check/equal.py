"""Training on the device beside the same training on the CPU: same weights, same batches, step for step.

The CPU in fp32 is the truth. A 16-bit run differs from it by rounding, on any device: how far the CPU's own run in the
same precision does says how far the device's may. TF32, which no CPU has, rounds less than bf16 and is held to that.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from joulelaw.bench.configuration import Attention, Configuration, Precision, TrialSpec
from joulelaw.bench.gpu_check.cases import configuration
from joulelaw.bench.gpu_check.rank import Teller
from joulelaw.bench.gpu_check.training import SEED
from joulelaw.bench.process_group import Group
from joulelaw.bench.rank_state import claim_device
from joulelaw.bench.trial import make_epoch, prepare
from joulelaw.cluster.ranks import RankContext

STEPS = 8
# Sums in another order move an fp32 loss by some 1e-7 a step; Adam divides by small gradients: see docs/equality.md.
FLOOR = 1e-4
TIMES = 3.0
CPU_STAND_IN: dict[Precision, Precision] = {"tf32": "bf16"}


def compare(
    context: RankContext, teller: Teller, family: str, precision: Precision, shape: dict[str, int], compiled: bool
) -> dict[str, Any]:
    """The largest relative difference of the loss from the CPU's in fp32, over the steps, per attention."""
    device, cpu = claim_device(context), torch.device("cpu")
    model = {**shape, "micro_batch_size": 4, "sequence_length": 64, "precision": "fp32", "model_family": family}
    asked = configuration(model, vocab_size=1000, learning_rate=1e-3)
    arms = {}
    attentions: tuple[Attention, ...] = ("sdpa",) if compiled else ("sdpa", "eager")
    for attention in attentions:
        exact = replace(asked, attention=attention)
        truth = losses(exact, cpu)
        rounded = losses(replace(exact, precision=CPU_STAND_IN.get(precision, precision)), cpu)
        found = losses(replace(exact, precision=precision, torch_compile=compiled), device)
        allowed = TIMES * difference(rounded, truth) + FLOOR
        off = difference(found, truth)
        arms[attention] = {"difference": off, "allowed": allowed, "equal": off <= allowed, "losses": found}
    return {"attention": arms, "equal": all(arm["equal"] for arm in arms.values())}


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
