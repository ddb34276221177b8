"""Processes of one training: what they tell each other through the store, and one that does not take part."""

import pickle
import threading
from typing import Any

import pyarrow as pa
import pytest
from torch.distributed import HashStore  # type: ignore[attr-defined]

from joulelaw.bench.energy.energy import DeviceEnergy, GroupEnergy
from joulelaw.bench.energy.readings import power_table
from joulelaw.bench.live.ending import Ended, conclude
from joulelaw.bench.live.joules import SoFar
from joulelaw.bench.live.measured import RankPart
from joulelaw.bench.live.piece import Micro, StepRecord
from joulelaw.bench.live.ranks import AbsentError, Company, Member, Ranks
from joulelaw.bench.live.row import power_of
from joulelaw.bench.live.window import Warmup
from joulelaw.bench.trial.conditions import Conditions
from joulelaw.cluster.nodes.inventory import Device
from joulelaw.cluster.power.meter import NoMeter, Reading

SECOND = 1_000_000_000
# Two nodes of two processes each; the clock of the second is far ahead.
MEMBERS = [Member(rank, "one" if rank < 2 else "two", 100 + rank, 1, None) for rank in range(4)]
AHEAD_NS = {"one": 0, "two": 10**15}


class StubMeter:
    """Gives 5 J a second of whatever stretch is asked for; 7 on the second node."""

    def __init__(self, host: str) -> None:
        self.devices = [Device(f"CPU-{host}-{k}", "A CPU (1 core)", k, "cpu", 10**9, (k,), None, "") for k in (0, 1)]
        self.meter = NoMeter(self.devices, "a stub")
        self.watts = 5.0 if host == "one" else 7.0

    def so_far(self) -> SoFar:
        return SoFar(100.0 * self.watts, 0, SECOND)

    def energy(self, begin_ns: int, end_ns: int) -> tuple[GroupEnergy, Conditions]:
        joules = self.watts * 1e-9 * (end_ns - begin_ns)
        devices = (DeviceEnergy("domain", joules, readings=9, largest_gap_s=0.1),)
        return GroupEnergy(joules, None, 0.1, None, devices, ()), Conditions(temperature_max_c=10 * self.watts)

    def readings(self, begin_ns: int, end_ns: int) -> pa.Table:
        return power_table("stub", [Reading(self.devices[0].uuid, begin_ns, self.watts)])


def records(rank: int) -> list[StepRecord]:
    """A step a second; the odd ranks are a tenth of a second late."""
    begin_ns = AHEAD_NS[MEMBERS[rank].host] + rank % 2 * SECOND // 10
    micro = Micro(2, 4, 64, 512, True)
    return [
        StepRecord(k, begin_ns + k * SECOND, begin_ns + (k + 1) * SECOND, 0.5, micro, False, 0)
        for k in range(40 + rank)
    ]


def ranks_of(store: Any, rank: int) -> Ranks:
    return Ranks(rank, len(MEMBERS), store, MEMBERS[rank].host)


def test_all_nodes_measure_one_window_each_on_its_own_clock() -> None:
    store, ended = HashStore(), dict[int, Ended | None]()

    def work(rank: int) -> None:
        company = Company(MEMBERS, rank)
        meter: Any = StubMeter(company.own.host) if company.leads else None
        own = RankPart(records(rank), 0.0, None)
        ended[rank] = conclude(ranks_of(store, rank), company, meter, own, 0, Warmup(10, 0.0), 600.0)

    threads = [threading.Thread(target=work, args=(rank,)) for rank in (3, 2, 1, 0)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert [ended[rank] for rank in (1, 2, 3)] == [None, None, None]
    result = ended[0]
    assert result is not None
    assert result.energy_j == 1200.0
    measured = result.measured
    assert measured is not None
    assert (measured.steps, measured.micro_steps, measured.padded_tokens) == (30, 60, 4 * 30 * 512)
    assert measured.duration_s == pytest.approx(30.0)
    # Each node's window is from its first process's begin to its last one's end.
    assert measured.energy.energy_j == pytest.approx((5.0 + 7.0) * 30.1)
    assert measured.conditions.temperature_max_c == 70.0
    assert [node.host for node in measured.nodes] == ["one", "two"]
    (reading,) = power_of(measured.nodes[1].power).to_pylist()
    assert reading["time_ns"] == 10**15 + 10 * SECOND
    assert measured.full_texts


def test_one_process_a_node_meters() -> None:
    company = Company(MEMBERS, 3)
    assert company.hosts == ["one", "two"]
    assert company.leaders == [0, 2]
    assert not company.leads
    assert [member.rank for member in company.local] == [2, 3]


def test_a_process_without_the_callback_costs_a_time_out_and_is_named() -> None:
    store = HashStore()
    ranks_of(store, 2).say("meet", "here")
    with pytest.raises(AbsentError, match="ranks 1, 3 did not answer"):
        ranks_of(store, 0).exchange("meet", "here too", 0.2)
    assert ranks_of(store, 0).latest("meet", [2, 3]) == ["here", None]


def test_one_process_alone_asks_nobody() -> None:
    alone = Ranks(0, 1)
    assert alone.exchange("meet", 7) == [7]
    assert alone.backend == ""


def call_of(module: str, name: str) -> bytes:
    """A pickle that calls this with one text; a name may have dots, as the format allows."""
    texts = b"".join(bytes([0x8C, len(text)]) + text.encode() for text in (module, name))  # SHORT_BINUNICODE, twice
    return b"\x80\x04" + texts + b"\x93" + b"\x8c\x04true" + b"\x85R."  # STACK_GLOBAL, a tuple of 1, REDUCE


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("posix", "system"),
        ("subprocess", "Popen"),
        ("joulelaw.cluster.nodes.inventory", "inspect_node"),
        ("joulelaw.bench.meter.command", "subprocess.Popen"),
        ("joulelaw.bench.meter.command", "Path"),
        ("joulelaw.bench.meter.window", "Window"),
    ],
)
def test_what_another_says_runs_no_code(module: str, name: str) -> None:
    """Neither functions, nor classes of others, also by way of our modules that import them, nor ours that work."""
    assert pickle.loads(call_of("builtins", "str")) == "true"
    store = HashStore()
    store.set("word/1", call_of(module, name))
    with pytest.raises(pickle.UnpicklingError, match="none of this program's records"):
        Ranks(0, 2, store).hear("word", [1])
