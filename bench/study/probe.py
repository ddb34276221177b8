"""What a device does at best, measured in about two seconds, for devices that no data sheet lists.

Peaks are the fastest of repeated square matrix products, bandwidth the fastest of repeated copies (bytes read plus
bytes written, as data sheets count), the link the fastest of repeated all-gathers (bytes that one rank sends).
"""

import time
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist

from joulelaw.bench.training.precision import trainable
from joulelaw.bench.training.process_group import Group, join, set_network_environment
from joulelaw.bench.training.rank_state import claim_device, synchronize
from joulelaw.cluster.ranks.rank import RankContext

DTYPES = {"fp32": torch.float32, "tf32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
# Beyond any cache, yet small for a logical device.
COPY_BYTES = {"cpu": 2**27, "cuda": 2**30}
GATHER_BYTES = {"cpu": 2**22, "cuda": 2**26}
# A product long enough to time and to fill the device, short enough to repeat.
PRODUCT_S = 0.02
SMALLEST, LARGEST = 128, 16384


def run_probe(payload: dict[str, Any], context: RankContext) -> None:
    """Emits a `probe` event from rank 0; with two ranks or more it includes their link.

    ``payload["seconds"]`` bounds the time of each measurement (default 0.3 s). Rank 0 measures alone, so that the
    figures are those of a device whose neighbours are idle.
    """
    set_network_environment(context)
    device = claim_device(context)
    seconds = float(payload.get("seconds", 0.3))
    group = join(context, device) if context.world_size > 1 else Group(0, 1, device, None)
    figures: dict[str, Any] = {}
    if context.rank == 0:
        figures["peak_flop_per_s"] = {name: peak(device, name, seconds) for name in supported(device)}
        figures["bandwidth_bytes_per_s"] = bandwidth(device, seconds)
    link = link_bytes_per_s(group, device) if context.world_size > 1 else None
    if context.rank == 0:
        context.emit({"kind": "probe", **figures, "link": group.backend, "link_bytes_per_s": link})
    group.close()


def supported(device: torch.device) -> tuple[str, ...]:
    """The precisions to probe: all that can be trained."""
    return trainable(device.type, torch.cuda.get_device_capability(device) if device.type == "cuda" else None)


def peak(device: torch.device, precision: str, seconds: float) -> float:
    """FLOP/s of the fastest square matrix product; the side doubles until a product lasts `PRODUCT_S`.

    Not always the largest one's: processors without fp16 products fall behind by 10 times beyond a side of 128.
    """
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    side, best = SMALLEST, 0.0
    while True:
        a, b, out = (torch.randn(side, side, device=device).to(DTYPES[precision]) for _ in range(3))

        def product(a: torch.Tensor = a, b: torch.Tensor = b, out: torch.Tensor = out) -> None:
            torch.mm(a, b, out=out)

        product()  # the first one also sets libraries up
        duration_s = _once(product, device)
        if duration_s > PRODUCT_S or side == LARGEST:
            return max(best, 2.0 * side**3 / _fastest(product, device, seconds))
        best = max(best, 2.0 * side**3 / duration_s)
        side *= 2


def bandwidth(device: torch.device, seconds: float) -> float:
    """Bytes per second of the fastest copy, reads and writes together."""
    source = torch.ones(COPY_BYTES[device.type], dtype=torch.uint8, device=device)
    target = torch.zeros_like(source)
    return 2 * source.numel() / _fastest(lambda: target.copy_(source), device, seconds)


def link_bytes_per_s(group: Group, device: torch.device, repeats: int = 20) -> float:
    """Bytes per second that each rank sends in the fastest all-gather. All ranks must call it."""
    mine = torch.ones(GATHER_BYTES[device.type], dtype=torch.uint8, device=device)
    gathered = [torch.empty_like(mine) for _ in range(group.size)]
    durations = []
    for _ in range(repeats):
        group.barrier()
        durations.append(_once(lambda: dist.all_gather(gathered, mine), device))
    return (group.size - 1) * mine.numel() / min(durations)


def _once(work: Callable[[], object], device: torch.device) -> float:
    synchronize(device)
    began = time.perf_counter()
    work()
    synchronize(device)
    return time.perf_counter() - began


def _fastest(work: Callable[[], object], device: torch.device, seconds: float) -> float:
    """The shortest duration in seconds of repeated runs within a time, at least three."""
    durations = [_once(work, device) for _ in range(3)]
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        durations.append(_once(work, device))
    return min(durations)
