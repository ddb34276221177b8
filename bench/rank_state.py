"""The state of a rank's process that a trial sets and reads: device, threads, memory, garbage collector."""

import gc
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

from joulelaw.cluster.ranks import RankContext


def claim_device(context: RankContext) -> torch.device:
    """This rank's device, current and checked: on CUDA the one with the UUID that the rank was given.

    Raises:
        RuntimeError: no visible CUDA device has that UUID.
    """
    if context.device_kind == "cpu":
        torch.set_num_threads(context.threads)
        return torch.device("cpu")
    seen = [str(torch.cuda.get_device_properties(index).uuid) for index in range(torch.cuda.device_count())]
    matches = [index for index, uuid in enumerate(seen) if context.device_uuid.endswith(uuid)]
    if not matches:
        raise RuntimeError(f"rank {context.rank} was given {context.device_uuid}, but sees {', '.join(seen) or 'none'}")
    device = torch.device("cuda", matches[0])
    torch.cuda.set_device(device)
    return device


def synchronize(device: torch.device) -> None:
    """Returns once the device has done everything that was asked of it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def reset_peak_memory(device: torch.device) -> None:
    """Starts the peak anew, so that building the model on its way to the device does not count."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        with suppress(OSError):  # where the kernel does not allow it, the peak includes the set-up
            Path("/proc/self/clear_refs").write_text("5")


def memory_bytes(device: torch.device, peak: bool = False) -> int:
    """Memory held now, or at most since the last reset: of the allocator on CUDA, resident set on CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) if peak else torch.cuda.memory_allocated(device)
    status = Path("/proc/self/status").read_text()
    found = re.search(rf"^{'VmHWM' if peak else 'VmRSS'}:\s+(\d+) kB", status, re.MULTILINE)
    if found is None:
        raise RuntimeError("/proc/self/status does not tell the resident set")
    return 1024 * int(found[1])


@contextmanager
def collector_off() -> Iterator[None]:
    """No garbage collection inside: a full pass over the libraries' objects would take longer than a small step."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
