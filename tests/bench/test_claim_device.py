"""A rank whose device is not the one it was given fails and says so, before it has done anything."""

import os
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from joulelaw.bench.training.rank_state import claim_device
from joulelaw.cluster.ranks.gang import GangState
from joulelaw.cluster.ranks.local import LocalGang
from joulelaw.cluster.ranks.rank import RankContext
from tests.bench.trial_ranks import cpu_device, fork_server, run_ranks

pytestmark = pytest.mark.xdist_group("ranks")

ONE, OTHER = "3f2504e0-4f89-11d3-9a0c-0305e82c3301", "11111111-2222-3333-4444-555555555555"


class NoChannel:
    def emit(self, event: dict[str, Any]) -> None: ...
    def receive(self, timeout_s: float) -> dict[str, Any]:
        return {}


def context(uuid: str, local_rank: int = 0, kind: str = "cuda", cores: tuple[int, ...] = ()) -> RankContext:
    return RankContext(4 + local_rank, 8, local_rank, 2, kind, uuid, 1, cores=cores, channel=NoChannel())


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> list[torch.device]:
    @dataclass
    class Properties:
        uuid: str

    taken: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: Properties((ONE, OTHER)[index]))
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
    return taken


def test_the_gpu_of_its_place_is_taken_where_the_uuid_is_right(two_gpus: list[torch.device]) -> None:
    assert claim_device(context(f"GPU-{ONE}")) == torch.device("cuda", 0)
    assert claim_device(context(f"GPU-{OTHER.upper()}", local_rank=1)) == torch.device("cuda", 1)
    assert two_gpus == [torch.device("cuda", 0), torch.device("cuda", 1)]


@pytest.mark.parametrize(
    ("uuid", "local_rank", "said"),
    [
        (f"GPU-{OTHER}", 0, f"rank 4 was given GPU-{OTHER}, but its device 0 is {ONE}; it sees {ONE}, {OTHER}"),
        (f"GPU-{ONE}", 1, f"rank 5 was given GPU-{ONE}, but its device 1 is {OTHER}"),
        (f"GPU-{ONE[4:]}", 0, "but its device 0 is"),
        (f"GPU-{ONE}", 2, "but its device 2 is none"),
    ],
)
def test_another_gpu_fails_the_rank(two_gpus: list[torch.device], uuid: str, local_rank: int, said: str) -> None:
    with pytest.raises(RuntimeError, match=said.replace("(", r"\(")):
        claim_device(context(uuid, local_rank))
    assert two_gpus == []


def test_other_cores_fail_the_rank() -> None:
    own = tuple(sorted(os.sched_getaffinity(0)))
    threads = torch.get_num_threads()
    try:
        assert claim_device(context("CPU-1", kind="cpu", cores=own)) == torch.device("cpu")
        with pytest.raises(RuntimeError, match=f"rank 4 was given CPU-1 with core 4095, but is on core {own[0]}"):
            claim_device(context("CPU-1", kind="cpu", cores=(4095,)))
    finally:
        torch.set_num_threads(threads)


def move_away(payload: dict[str, Any], rank: RankContext) -> None:
    """An entry that finds itself on other cores than it was pinned to, as under somebody's taskset."""
    os.sched_setaffinity(0, payload["cores"])
    rank.emit({"kind": "ready"})
    claim_device(rank)


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="there is one core only to be on")
def test_a_real_rank_on_the_wrong_core_ends_its_trial_with_that_message(tmp_path: Path) -> None:
    first, second, *_ = sorted(os.sched_getaffinity(0))
    device = replace(cpu_device(0), cores=(first,))
    gang = LocalGang(fork_server(), [device])
    events = []
    gang.start("tests.bench.test_claim_device:move_away", {"cores": [second]}, tmp_path)
    try:
        while gang.state is GangState.RUNNING:
            events += gang.poll()
            time.sleep(0.01)
    finally:
        gang.stop()
    (error,) = [event for event in events if event["kind"] == "error"]
    assert error["message"] == f"rank 0 was given {device.uuid} with core {first}, but is on core {second}"
    assert gang.state is GangState.FAILED


def stay(payload: dict[str, Any], rank: RankContext) -> None:
    claim_device(rank)


def test_a_rank_without_cores_of_its_own_is_not_asked(tmp_path: Path) -> None:
    (outcome,) = run_ranks(tmp_path, "tests.bench.test_claim_device:stay", {})
    assert outcome.exit_status == 0
