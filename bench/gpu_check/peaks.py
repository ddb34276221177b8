"""The fastest matrix products and copy: what the device gives, beside what its data sheet promises."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

from joulelaw.bench.gpu_check.rank import Teller
from joulelaw.bench.study.probe import DTYPES
from joulelaw.bench.training.precision import set_matmul_precision
from joulelaw.bench.training.rank_state import claim_device, synchronize
from joulelaw.cluster.ranks.rank import RankContext


def products(
    context: RankContext, teller: Teller, precision: Any, sides: Sequence[int], seconds: float
) -> dict[str, Any]:
    """Square products of normal random numbers: the mean rate over `seconds` of each side, one call after the other."""
    device = claim_device(context)
    set_matmul_precision(precision)
    found = {}
    for side in sides:
        a, b, out = (torch.randn(side, side, device=device).to(DTYPES[precision]) for _ in range(3))

        def product(a: torch.Tensor = a, b: torch.Tensor = b, out: torch.Tensor = out) -> None:
            torch.mm(a, b, out=out)

        call_s, calls = repeated(product, device, seconds, teller, f"side {side}")
        found[str(side)] = {"flop_per_s": 2.0 * side**3 / call_s, "calls": calls, "flop": 2.0 * side**3}
    best = max(found, key=lambda side: found[side]["flop_per_s"])
    return {"sides": found, "best_side": int(best), "flop_per_s": found[best]["flop_per_s"]}


def copy(context: RankContext, teller: Teller, size_bytes: int, seconds: float) -> dict[str, Any]:
    """A copy within the device's memory: bytes read and written per second, together, as data sheets count."""
    device = claim_device(context)
    source = torch.randint(256, (size_bytes,), dtype=torch.uint8, device=device)  # bits that change take their power
    target = torch.zeros_like(source)
    call_s, calls = repeated(lambda: target.copy_(source), device, seconds, teller, "copy")
    return {"bytes_per_s": 2 * size_bytes / call_s, "calls": calls, "size_bytes": size_bytes}


def repeated(
    work: Callable[[], object], device: torch.device, seconds: float, teller: Teller, name: str
) -> tuple[float, int]:
    """Seconds of a call where calls follow each other for `seconds`, and how many did; after three to warm up."""
    for _ in range(3):
        work()
    synchronize(device)
    began = time.perf_counter()
    for _ in range(3):
        work()
    synchronize(device)
    calls = max(3, round(3 * seconds / (time.perf_counter() - began)))
    with teller.window(name):
        began = time.perf_counter()
        for _ in range(calls):
            work()
        synchronize(device)
        took_s = time.perf_counter() - began
    return took_s / calls, calls
