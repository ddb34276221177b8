"""Loads under which the meter is looked at: none, steady, in bursts, training; and training with it off and on."""

import statistics
import time
from typing import Any

import torch

from joulelaw.bench.gpu_check.cases import configuration
from joulelaw.bench.gpu_check.rank import Teller
from joulelaw.bench.gpu_check.training import Ours
from joulelaw.bench.study.probe import DTYPES
from joulelaw.bench.training.rank_state import claim_device, synchronize
from joulelaw.cluster.ranks.rank import RankContext

BURST_S = 0.4
# Until a device that has just worked has lowered its clocks.
REST_S = 5.0


def idle(context: RankContext, teller: Teller, seconds: float, rest_s: float = REST_S) -> dict[str, Any]:
    """Nothing, and not even a CUDA context, as before a study; not straight after work."""
    time.sleep(rest_s)
    with teller.window("idle"):
        time.sleep(seconds)
    return {}


def product(
    context: RankContext, teller: Teller, precision: str, side: int, seconds: float, rest_s: float
) -> dict[str, Any]:
    """Matrix products for `BURST_S` at a time, with `rest_s` of nothing after each time."""
    device = claim_device(context)
    a, b = (torch.randn(side, side, device=device).to(DTYPES[precision]) for _ in range(2))
    torch.mm(a, b)
    synchronize(device)
    with teller.window("load"):
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            rest_at = time.monotonic() + BURST_S
            while time.monotonic() < rest_at:
                for _ in range(4):
                    torch.mm(a, b)
                synchronize(device)
            time.sleep(rest_s)
    return {}


def training(context: RankContext, teller: Teller, model: dict[str, Any], seconds: float) -> dict[str, Any]:
    """Steps of a trial."""
    ours, count, step_s = _ready(context, model, seconds)
    with teller.window("load"):
        ours.run(count)
    return {"steps": count, "step_s": step_s}


def overhead(context: RankContext, teller: Teller, model: dict[str, Any], pairs: int, seconds: float) -> dict[str, Any]:
    """The same steps with the sampler off and on, in turns. The ratio is on over off: above 1 it costs time."""
    ours, count, _ = _ready(context, model, seconds)
    step_s: dict[bool, list[float]] = {True: [], False: []}
    for pair in range(pairs):
        for on in (True, False) if pair % 2 else (False, True):
            teller.sampling(on)
            began = time.perf_counter()
            ours.run(count)
            step_s[on].append((time.perf_counter() - began) / count)
    teller.sampling(True)
    ratios = [with_s / without_s for with_s, without_s in zip(step_s[True], step_s[False], strict=True)]
    return {
        "steps_a_turn": count,
        "step_s_without": statistics.median(step_s[False]),
        "step_s_with": statistics.median(step_s[True]),
        "ratio": statistics.median(ratios),
        "ratio_stderr": statistics.stdev(ratios) / len(ratios) ** 0.5,
        "ratios": ratios,
    }


def _ready(context: RankContext, model: dict[str, Any], seconds: float) -> tuple[Ours, int, float]:
    """A warm model, and how many steps it makes in so many seconds."""
    ours = Ours(configuration(model), claim_device(context))
    ours.run(5)
    began = time.perf_counter()
    ours.run(5)
    step_s = (time.perf_counter() - began) / 5
    return ours, max(3, round(seconds / step_s)), step_s
