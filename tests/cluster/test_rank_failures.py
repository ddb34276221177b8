"""Each bad end of a rank has its cause, and of a group's failures the root is told first."""

import signal
from typing import Any

import pytest
import torch

from joulelaw.cluster.failures import Cause
from joulelaw.cluster.ranks.rank_failures import (
    RankFailure,
    cause_of,
    describe_failures,
    of_error,
    of_exit,
    signal_cause,
)


def failure(rank: int, cause: Cause, what: str = "", time_ns: int = 0, of_peers: bool = False) -> RankFailure:
    return RankFailure(rank, "n", cause, what, f"r{rank}.log", time_ns, of_peers)


def error(kind: str, message: str) -> dict[str, Any]:
    return {"type": kind, "message": message}


@pytest.mark.parametrize(
    ("event", "cause", "of_host"),
    [
        # As torch 2 says it on a full GPU.
        (
            error("OutOfMemoryError", "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has ..."),
            "out_of_memory",
            0,
        ),
        (error("RuntimeError", "CUDA error: out of memory"), "out_of_memory", 0),
        (
            error("RuntimeError", "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`"),
            "out_of_memory",
            0,
        ),
        (error("MemoryError", ""), "out_of_memory", 1),
        (error("OSError", "[Errno 12] Cannot allocate memory"), "out_of_memory", 1),
        (error("AcceleratorError", "CUDA error: uncorrectable ECC error encountered"), "gpu_lost", 0),
        (error("RuntimeError", "No CUDA GPUs are available"), "rank_error", 0),
        (error("ValueError", "the memory of a loss"), "rank_error", 0),
    ],
)
def test_an_exception_has_its_cause(event: dict[str, Any], cause: str, of_host: int) -> None:
    end = of_error(event)
    assert (end.cause, end.of_host) == (cause, bool(of_host))


def test_torchs_own_words_for_a_full_host_are_known() -> None:
    with pytest.raises(RuntimeError) as full:
        torch.empty(2**60, dtype=torch.uint8)
    assert of_error(error(type(full.value).__name__, str(full.value))).cause is Cause.OUT_OF_MEMORY


@pytest.mark.parametrize(
    ("event", "cause", "what"),
    [
        ({"status": -11}, "rank_crash", "killed by signal 11 (SIGSEGV)"),
        ({"status": 3}, "rank_crash", "left with exit code 3"),
        ({"status": -9, "out_of_memory": True}, "out_of_memory", "killed by the kernel, as memory ran out"),
        ({"status": 255, "lost": "was lost with its node"}, "node_lost", "was lost with its node"),
        ({"status": 255, "lost": "health check", "cause": "network_cut"}, "network_cut", "health check"),
        ({"status": 255, "lost": "with its server", "cause": "rank_crash"}, "rank_crash", "with its server"),
    ],
)
def test_an_exit_has_its_cause(event: dict[str, Any], cause: str, what: str) -> None:
    end = of_exit(event)
    assert end is not None
    assert (end.cause, end.what) == (cause, what)


def test_leaving_with_zero_is_no_failure() -> None:
    assert of_exit({"status": 0, "lost": ""}) is None


def test_failures_are_told_root_first() -> None:
    failures = [
        failure(0, Cause.RANK_ERROR, "failed: ConnectionError: reset", 30),
        failure(1, Cause.RANK_ERROR, "failed: ValueError: bad", 20),
        failure(2, Cause.RANK_CRASH, signal_cause(9), 40),
    ]
    assert [part.split()[1] for part in describe_failures(failures).split(" | ")] == ["2", "1", "0"]
    assert "memory runs out" in describe_failures(failures)


ABORTED = failure(0, Cause.RANK_CRASH, signal_cause(signal.SIGABRT), 1, of_peers=True)
BROKEN = failure(1, Cause.RANK_ERROR, "failed: RuntimeError: Connection closed by peer [127.0.0.1]:1", 1, of_peers=True)


@pytest.mark.parametrize(
    ("root", "others"),
    [
        (failure(2, Cause.RANK_ERROR, "failed: ValueError", 5), [ABORTED, BROKEN]),
        (failure(2, Cause.OUT_OF_MEMORY, "failed: MemoryError", 5), [ABORTED, BROKEN, failure(3, Cause.RANK_CRASH)]),
        (failure(2, Cause.NODE_LOST, "was lost", 0), [failure(3, Cause.OUT_OF_MEMORY), BROKEN]),
        (failure(2, Cause.RANK_CRASH, signal_cause(9), 5), [BROKEN, failure(3, Cause.HANG)]),
    ],
)
def test_what_broke_off_for_another_ranks_end_is_not_the_groups_cause(
    root: RankFailure, others: list[RankFailure]
) -> None:
    assert cause_of([*others, root]) is root.cause


def test_broken_connections_alone_are_the_networks_doing_between_nodes_only() -> None:
    broken = [BROKEN, failure(0, Cause.RANK_ERROR, "failed: ConnectionError", 2, of_peers=True)]
    assert cause_of(broken, node_count=2) is Cause.NETWORK_CUT
    assert cause_of(broken) is Cause.RANK_ERROR
    assert cause_of([]) is None
