"""Sixty-four samplers' streams into one dataset: what the study's driver pays, and whether every reading arrives once.

    python benchmarks/streams.py [--seconds 60] [--nodes 64] [--processes 4] [--lose 0.0] [--quick]

Each node's sampler replays a known trace of 8 devices at 20 Hz: a reading's counter is its number. The samplers, with
their threads and outboxes as in a study, live in actors of a local Ray, several nodes to a process; each is asked by
its own call once a second, and what comes is handed out to one trial a node and written by the study's own code. At
the end the dataset is read back: of each device every number since the trial's first must be there, once, in order.
`--lose`: this share of all answers is thrown away, as a bad link would. Prints Markdown and, last, one JSON object.
"""

import argparse
import json
import random
import resource
import tempfile
import time
from collections.abc import Collection
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq
import ray
from measuring import machine, peak_mb, table

from joulelaw.bench.dataset.dataset import Dataset
from joulelaw.bench.study.power_feed import hand_out
from joulelaw.bench.trial.running import RunningTrial
from joulelaw.cluster.nodes.inventory import Device
from joulelaw.cluster.power.meter import MeterOptions
from joulelaw.cluster.ranks.gang import Gang
from joulelaw.cluster.raystart import open_ray
from joulelaw.cluster.streams.metering import ClockOffset, MeterInfo
from joulelaw.cluster.streams.meters import NodeMeters
from joulelaw.cluster.streams.sampler_host import SamplerHost
from tests.bench.fake_fleet import FakeGang, planned

RATE_HZ, DEVICES = 20.0, 8
PERIOD_NS = round(1e9 / RATE_HZ)
DRAIN_EVERY_S = 1.0  # as the study's loop does


@dataclass(frozen=True)
class Stream:
    """One of the samplers in an actor."""

    actor: Any
    place: int
    lose: float

    def drain(self, life: str, number: int) -> "Future[Any]":
        return self._unless_lost(self.actor.drain.remote(self.place, life, number).future())

    def watch(self, number: int, pids: dict[str, list[int]]) -> "Future[Any]":
        return self._unless_lost(self.actor.watch.remote(self.place, number, pids).future())

    def clock_ns(self) -> "Future[int]":
        return self.actor.clock_ns.remote(self.place).future()  # type: ignore[no-any-return]

    def _unless_lost(self, answer: "Future[Any]") -> "Future[Any]":
        return Future() if self.lose and random.random() < self.lose else answer


class Streams:
    """An actor with the samplers of several nodes."""

    def __init__(self, nodes: int, trace: str) -> None:
        options = MeterOptions(rate_hz=RATE_HZ, kind="replay", replay_path=trace)
        self._hosts = [SamplerHost(devices_of(0), options) for _ in range(nodes)]

    def infos(self) -> list[tuple[str, MeterInfo]]:
        return [host.info() for host in self._hosts]

    def drain(self, place: int, life: str, number: int) -> Any:
        return self._hosts[place].drain(life, number)

    def watch(self, place: int, number: int, pids: dict[str, list[int]]) -> Any:
        return self._hosts[place].watch(number, pids)

    def clock_ns(self, place: int) -> int:
        return self._hosts[place].clock_ns()

    def cpu_s(self) -> tuple[float, float]:
        """Of the process; of the sampling threads alone."""
        return time.process_time(), sum(host._sampler.cpu_s for host in self._hosts if host._sampler)


class Feed:
    """The nodes of the study, as the loop sees them."""

    def __init__(self, meters: NodeMeters) -> None:
        self._meters = meters
        self.meters = meters.infos

    @property
    def meter_losses(self) -> dict[str, int]:
        return self._meters.losses

    @property
    def power_drained_s(self) -> dict[str, float]:
        return self._meters.drained_s

    @property
    def power_dropped(self) -> dict[str, int]:
        return self._meters.dropped

    def drain_power(self, nodes: Collection[str] | None = None) -> dict[str, pa.RecordBatch]:
        return self._meters.drain(nodes)

    def clock_offsets(self) -> dict[str, ClockOffset]:
        return self._meters.clock_offsets()

    def watch(self, *asked: Any) -> bool:
        return self._meters.watch(*asked)


class NodeGang(FakeGang):
    """All devices of one node, held for good."""

    def __init__(self, node: str) -> None:
        super().__init__(0)
        self.devices, self.node_ids = devices_of(0), (node,)


def devices_of(_: int) -> tuple[Device, ...]:
    return tuple(Device(f"GPU-{i}", "GPU", i, "cuda", 2**30, (i,), None, "") for i in range(DEVICES))


def record(path: Path, seconds: float) -> None:
    """The known trace: a reading's counter is its number, its power tells of its device."""
    ticks = np.repeat(np.arange(round(seconds * RATE_HZ)), DEVICES)
    device = np.tile(np.arange(DEVICES), len(ticks) // DEVICES)
    columns = {
        "time_s": ticks / RATE_HZ,
        "device": [f"GPU-{each}" for each in device],
        "power_w": 100.0 + device,
        "energy_counter_j": ticks.astype(float),
        "temperature_c": np.full(len(ticks), 60.0),
    }
    pyarrow.csv.write_csv(pa.table(columns), path)


def own_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def rays_cpu_s() -> float:
    """Of Ray's own processes, which carry the answers."""
    found = [child for child in psutil.Process().children(recursive=True) if child.name() in ("raylet", "gcs_server")]
    return sum(sum(child.cpu_times()[:2]) for child in found)


def check(folder: Path, nodes: int, begin_ns: int, end_ns: int) -> dict[str, int]:
    """What the dataset has between two times, against the trace: readings, and those that are missing or twice."""
    found = {"readings": 0, "missing": 0, "twice": 0}
    for node in range(nodes):
        files = sorted((folder / "power").glob(f"*.node{node}.*.parquet"), key=lambda file: int(file.suffixes[-2][1:]))
        rows = pa.concat_tables([pq.read_table(path) for path in files])
        for device in range(DEVICES):
            mine = rows.filter(pc.equal(rows["device_uuid"], f"GPU-{device}"))
            numbers, time_ns = mine["energy_counter_j"].to_numpy().astype(int), mine["time_ns"].to_numpy()
            assert set(mine["power_w"].to_pylist()) == {100.0 + device}, "another device's reading"
            steps = np.diff(numbers)
            at_the_ends = int(time_ns[0] > begin_ns + 2 * PERIOD_NS) + int(time_ns[-1] < end_ns - 2 * PERIOD_NS)
            found["readings"] += len(numbers)
            found["twice"] += int((steps <= 0).sum())
            found["missing"] += int((steps[steps > 1] - 1).sum()) + at_the_ends
    return found


def run(seconds: float, nodes: int, processes: int, lose: float, home: Path) -> dict[str, Any]:
    trace = home / "trace.csv"
    record(trace, seconds + 90)
    session = open_ray("local")
    try:
        shares = [len(range(place, nodes, processes)) for place in range(processes)]
        actors = [ray.remote(Streams).options(num_cpus=0).remote(share, str(trace)) for share in shares]
        meters = NodeMeters()
        for actor, infos in zip(actors, ray.get([actor.infos.remote() for actor in actors]), strict=True):
            for place, (life, info) in enumerate(infos):
                meters.add_sampler(f"node{len(meters.infos)}", Stream(actor, place, lose), life, info)
        feed = Feed(meters)
        while len(feed.clock_offsets()) < nodes:
            feed.drain_power()
        with Dataset.create(home / "out", sweep="", plan={}, environment={}) as dataset:
            return measure(feed, dataset, actors, seconds, lose)
    finally:
        session.close()


def measure(feed: Feed, dataset: Dataset, actors: list[Any], seconds: float, lose: float) -> dict[str, Any]:
    nodes, one = list(feed.meters), planned()
    trials = [
        RunningTrial(one, cast(Gang, NodeGang(node)), dataset.start_trial(f"stream{node}-r0", 0)) for node in nodes
    ]
    samplers_before = ray.get([actor.cpu_s.remote() for actor in actors])
    begin_s, cpu_s, rays_s = time.monotonic(), own_cpu_s(), rays_cpu_s()
    longest_s = 0.0
    while (now_s := time.monotonic()) < begin_s + seconds:
        hand_out(feed, trials)
        longest_s = max(longest_s, time.monotonic() - now_s)
        time.sleep(max(0.0, now_s + DRAIN_EVERY_S - time.monotonic()))
    wall_s, cpu_s, rays_s = time.monotonic() - begin_s, own_cpu_s() - cpu_s, rays_cpu_s() - rays_s
    samplers = ray.get([actor.cpu_s.remote() for actor in actors])
    ended_s = time.monotonic()
    while min(feed.power_drained_s.values()) < ended_s:
        hand_out(feed, trials)
        time.sleep(0.05)
    for trial in trials:
        trial.tables.flush()
    used = [
        sum(after[kind] - before[kind] for before, after in zip(samplers_before, samplers, strict=True))
        for kind in (0, 1)
    ]
    return {
        "seconds": wall_s,
        "nodes": len(nodes),
        "processes": len(actors),
        "lost_answers": lose,
        "writer_share": cpu_s / wall_s,
        "samplers_share": used[0] / wall_s,
        "sampling_threads_share": used[1] / wall_s,
        "ray_share": rays_s / wall_s,
        "longest_turn_s": longest_s,
        "peak_mb": peak_mb(),
        "dropped": sum(feed.power_dropped.values()),
        **check(Path(str(dataset.folder)), len(nodes), trials[-1].held_since_ns, round(1e9 * ended_s)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--nodes", type=int, default=64)
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--lose", type=float, default=0.0)
    parser.add_argument("--quick", action="store_true", help="16 nodes for 10 s")
    options = parser.parse_args()
    nodes, seconds = (16, 10.0) if options.quick else (options.nodes, options.seconds)
    said = machine()
    with tempfile.TemporaryDirectory(prefix="streams-") as home:
        found = run(seconds, nodes, options.processes, options.lose, Path(home))
    what = f"{nodes} samplers of {DEVICES} devices at {RATE_HZ:g} Hz in {options.processes} processes, {seconds:g} s"
    print(f"{said}; {what}\n")
    share = {name: f"{100 * found[name]:.1f}" for name in found if name.endswith("share")}
    rows = [
        ["the writer: the study's driver", share["writer_share"]],
        ["the samplers, all together", share["samplers_share"]],
        ["of that their sampling threads", share["sampling_threads_share"]],
        ["Ray's raylet and GCS", share["ray_share"]],
    ]
    print(table(["", "% of a core"], rows) + "\n")
    print(f"{found['readings']} readings, {found['missing']} missing, {found['twice']} twice\n")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
