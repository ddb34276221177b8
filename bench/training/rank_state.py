"""The state of a rank's process that a trial sets and reads: device, threads, memory, garbage collector."""

import ctypes
import gc
import os
import re
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

from joulelaw.cluster.ranks.rank import RankContext

# glibc's number for it, and its value at a process's start.
_M_MMAP_THRESHOLD, _MMAP_THRESHOLD_BYTES = -3, 128 << 10


def claim_device(context: RankContext) -> torch.device:
    """This rank's device, current and checked: a trial must not run, and be metered, on two different ones.

    On CUDA it is the visible device of this rank's place on its node, and must have the UUID that the rank was given.
    On CPU this process must be on the cores of its logical device.

    Raises:
        RuntimeError: it is another device.
    """
    if context.device_kind == "cpu":
        _check_cores(context)
        torch.set_num_threads(context.threads)
        return torch.device("cpu")
    seen = [str(torch.cuda.get_device_properties(index).uuid) for index in range(torch.cuda.device_count())]
    own = seen[context.local_rank] if context.local_rank < len(seen) else "none"
    if own.lower() != context.device_uuid.partition("-")[2].lower():  # torch leaves out "GPU-"
        raise RuntimeError(
            f"rank {context.rank} was given {context.device_uuid}, but its device {context.local_rank} is {own}; "
            f"it sees {', '.join(seen) or 'none'}"
        )
    device = torch.device("cuda", context.local_rank)
    torch.cuda.set_device(device)
    return device


def _check_cores(context: RankContext) -> None:
    own = os.sched_getaffinity(0)
    if context.cores and own != set(context.cores):
        raise RuntimeError(
            f"rank {context.rank} was given {context.device_uuid} with core {_numbers(context.cores)}, but is on core "
            f"{_numbers(own)}"
        )


def _numbers(cores: Collection[int]) -> str:
    return ", ".join(map(str, sorted(cores)))


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
    """Memory held now, or at most since the last reset: of the allocator on CUDA, on CPU of the process.

    The process's is its resident set without the pages of files: those are the libraries' code, which comes in bit by
    bit as it is first used, in tens of megabytes, and which the kernel can drop again.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) if peak else torch.cuda.memory_allocated(device)
    status = Path("/proc/self/status").read_text()
    found = dict(re.findall(r"^(VmHWM|VmRSS|RssFile):\s+(\d+) kB", status, re.MULTILINE))
    return 1024 * (int(found["VmHWM" if peak else "VmRSS"]) - int(found["RssFile"]))


def peak_memory_bytes(device: torch.device, one_more_step: Callable[[], None]) -> int:
    """The most memory that training holds: on CUDA of all steps so far, on CPU of one more step, after the window.

    What gives the resident set its meaning would slow the steps that are measured: see `return_freed_memory`. The step
    has a thread, and so a heap, of its own, without the holes that earlier steps left and that it would fill.
    """
    if device.type == "cpu":
        return_freed_memory()
        reset_peak_memory(device)
        with ThreadPoolExecutor(1) as thread:
            thread.submit(one_more_step).result()
    return memory_bytes(device, peak=True)


def return_freed_memory() -> None:
    """Has every freed tensor's memory go back to the kernel, from now on, so that the resident set is what is in use.

    glibc takes large blocks straight from the kernel, but raises what it calls large, up to 32 MiB, as such blocks are
    freed. The rest it cuts from a heap full of holes: that of a small BERT grew by a third within four steps. But a
    block that comes from the kernel is zeroed page by page: that BERT's steps take half as long again.
    """
    library = ctypes.CDLL(None)
    with suppress(AttributeError):  # another C library
        library.mallopt(_M_MMAP_THRESHOLD, _MMAP_THRESHOLD_BYTES)
        library.malloc_trim(0)


@contextmanager
def collector_off() -> Iterator[None]:
    """No garbage collection inside: a full pass over the libraries' objects would take longer than a small step."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
