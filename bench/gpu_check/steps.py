"""Our steps beside those of plain PyTorch, in turns in one process, so that heat and clocks are the same for both."""

import statistics
import time
from typing import Any

import torch

from joulelaw.bench.gpu_check.cases import configuration
from joulelaw.bench.gpu_check.rank import Teller
from joulelaw.bench.gpu_check.training import Ours, Plain
from joulelaw.bench.training.rank_state import claim_device, memory_bytes, reset_peak_memory
from joulelaw.cluster.ranks.rank import RankContext

WARM_UP = 5


def beside_plain(
    context: RankContext, teller: Teller, model: dict[str, Any], rounds: int, seconds: float
) -> dict[str, Any]:
    """`rounds` turns of `seconds` each, ours first in every other one; of the same weights on the same data.

    The ratio is plain PyTorch's step time over ours, of the turns that stand beside each other: above 1 we are faster.
    """
    device = claim_device(context)
    asked = configuration(model)
    ours = Ours(asked, device)
    ours.run(WARM_UP)
    losses = {"ours": ours.losses[-1]}
    reset_peak_memory(device)
    ours.run(1)
    peak_bytes = memory_bytes(device, peak=True)
    plain = Plain(asked, device)
    plain.run(WARM_UP)
    losses["plain"] = plain.loss
    count = max(3, round(seconds / _step_s(plain)))
    step_s: dict[str, list[float]] = {"ours": [], "plain": []}
    for turn in range(rounds):
        arms = (("ours", ours), ("plain", plain))
        for name, arm in arms if turn % 2 == 0 else reversed(arms):
            began = time.perf_counter()
            with teller.window(f"{name} {turn}"):
                arm.run(count)
            step_s[name].append((time.perf_counter() - began) / count)
    ratios = [plain_s / ours_s for plain_s, ours_s in zip(step_s["plain"], step_s["ours"], strict=True)]
    return {
        "model": model,
        "steps_a_turn": count,
        "step_s": {name: statistics.median(values) for name, values in step_s.items()},
        "ratio": statistics.median(ratios),
        "ratios": ratios,
        f"loss_after_{WARM_UP}_steps": losses,
        "num_parameters": ours.num_parameters,
        "peak_memory_bytes": peak_bytes if device.type == "cuda" else None,
        "torch": torch.__version__,
    }


def _step_s(plain: Plain) -> float:
    began = time.perf_counter()
    plain.run(WARM_UP)
    return (time.perf_counter() - began) / WARM_UP
