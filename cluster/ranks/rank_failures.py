"""How ranks end badly: what each end means, and which of a group's failures the others follow from."""

import re
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from joulelaw.cluster.failures import Cause

# What allocators say of a device or host that is full: torch's (c10/cuda/CUDACachingAllocator.cpp, c10/core/
# alloc_cpu.cpp), CUDA's, cuBLAS's, C++'s and the C library's own words.
_NO_MEMORY = re.compile(
    "out of memory|DefaultCPUAllocator: (can't allocate|not enough) memory|CUBLAS_STATUS_ALLOC_FAILED"
    "|std::bad_alloc|Cannot allocate memory"
)
_NO_MEMORY_TYPES = ("MemoryError", "OutOfMemoryError")
# CUDA's words for a GPU that is broken or gone (cudaErrorECCUncorrectable, cudaErrorDevicesUnavailable,
# cudaErrorNoDevice; NVML's "GPU is lost").
_NO_GPU = re.compile(
    "uncorrectable ECC error|GPU is lost|fallen off the bus|CUDA-capable device\\(s\\) is/are busy or unavailable"
    "|no CUDA-capable device is detected"
)
# What gloo, NCCL and sockets say where a peer is gone, or the way to it.
_NO_PEER = re.compile(
    "[Cc]onnection (closed|reset|refused|aborted|was reset)|Broken pipe|Socket [Tt]imeout|No route to host"
    "|Network is unreachable|Timed out waiting \\d+ms for|ncclRemoteError|NCCL communicator was aborted"
    "|remote process exited"
)
# A rank that dies takes its peers down with it: what they say then comes last. NCCL's watchdog aborts (SIGABRT).
_ROOTS_FIRST = (
    {Cause.GPU_LOST, Cause.NODE_LOST, Cause.NETWORK_CUT},
    {Cause.OUT_OF_MEMORY},
    {Cause.RANK_CRASH},
    {Cause.RANK_ERROR},
    {Cause.START_TIMEOUT, Cause.HANG},
)
_AFTER_ERRORS = 3.5


@dataclass(frozen=True)
class RankFailure:
    """How one rank ended badly. `time_ns` is CLOCK_MONOTONIC of its node, 0 where it is not known.

    `of_peers`: it may well follow from another rank's failure. `of_host`: what ran out was the host's memory, not a
    device's.
    """

    rank: int
    node: str
    cause: Cause
    what: str
    log_path: str
    time_ns: int = 0
    of_peers: bool = False
    of_host: bool = False

    def describe(self) -> str:
        return f"rank {self.rank} {self.what}; log {self.log_path}"


@dataclass(frozen=True)
class BadEnd:
    """What an event says of a rank's end."""

    cause: Cause
    what: str
    of_peers: bool = False
    of_host: bool = False


def of_error(event: Mapping[str, Any]) -> BadEnd:
    """Of an "error" event: an exception's type and message.

    >>> of_error({"type": "RuntimeError", "message": "CUDA error: out of memory"}).cause.value
    'out_of_memory'
    """
    kind, message = event["type"], event["message"]
    what = f"failed: {kind}: {message}"
    if kind in _NO_MEMORY_TYPES or _NO_MEMORY.search(message):
        return BadEnd(Cause.OUT_OF_MEMORY, what, of_host="CUDA" not in message and "CUBLAS" not in message)
    if _NO_GPU.search(message):
        return BadEnd(Cause.GPU_LOST, what)
    peers = kind in ("ConnectionError", "DistNetworkError") or bool(_NO_PEER.search(message))
    return BadEnd(Cause.RANK_ERROR, what, of_peers=peers)


def of_exit(event: Mapping[str, Any]) -> BadEnd | None:
    """Of an "exit" event: None where the rank left as it should. Whoever saw a loss may name its "cause"."""
    status: int = event["status"]
    if lost := event.get("lost"):
        return BadEnd(Cause(event.get("cause", Cause.NODE_LOST)), lost)
    if event.get("out_of_memory"):
        return BadEnd(Cause.OUT_OF_MEMORY, "killed by the kernel, as memory ran out", of_host=True)
    if status < 0:
        return BadEnd(Cause.RANK_CRASH, signal_cause(-status), of_peers=-status == signal.SIGABRT)
    return BadEnd(Cause.RANK_CRASH, f"left with exit code {status}", of_peers=True) if status else None


def signal_cause(number: int) -> str:
    """A signal in words, with the usual suspect for the one that nobody can catch.

    >>> signal_cause(11)
    'killed by signal 11 (SIGSEGV)'
    """
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = "unknown"
    hint = ", which the kernel also sends when memory runs out" if number == signal.SIGKILL else ""
    return f"killed by signal {number} ({name}{hint})"


def in_order(failures: Sequence[RankFailure]) -> list[RankFailure]:
    """The likely root first, then in order of time."""
    return sorted(failures, key=lambda failure: (_depth(failure), failure.time_ns, failure.rank))


def describe_failures(failures: Sequence[RankFailure]) -> str:
    """All ranks' failures as one line, the likely root first."""
    return " | ".join(failure.describe() for failure in in_order(failures))


def cause_of(failures: Sequence[RankFailure], node_count: int = 1) -> Cause | None:
    """Of a group over `node_count` nodes: its root's. Over several, broken connections alone are the network's."""
    if not failures:
        return None
    if node_count > 1 and all(each.cause is Cause.RANK_ERROR and each.of_peers for each in failures):
        return Cause.NETWORK_CUT
    return in_order(failures)[0].cause


def _depth(failure: RankFailure) -> float:
    depth = next((i for i, causes in enumerate(_ROOTS_FIRST) if failure.cause in causes), len(_ROOTS_FIRST))
    return _AFTER_ERRORS if failure.of_peers and failure.cause in (Cause.RANK_CRASH, Cause.RANK_ERROR) else depth
