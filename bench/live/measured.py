"""What was measured of a live training's window, all nodes together, and the verdict on it."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from joulelaw.bench.energy.energy import GroupEnergy, combine
from joulelaw.bench.live.piece import StepRecord
from joulelaw.bench.live.window import Chosen
from joulelaw.bench.trial.checks import TrialFacts, Verdict, verdict
from joulelaw.bench.trial.conditions import Conditions, together
from joulelaw.cluster.nodes.inventory import Device
from joulelaw.cluster.streams.metering import MeterInfo


class RankPart(NamedTuple):
    """What one process has seen: its steps, and how long (s) its machine slept meanwhile."""

    records: list[StepRecord]
    slept_s: float
    peak_memory_bytes: int | None


class NodePart(NamedTuple):
    """What one node's meter has read of the window; `power` are rows of that table, as bytes of Arrow's format."""

    host: str
    meter: MeterInfo
    devices: tuple[Device, ...]
    energy: GroupEnergy
    conditions: Conditions
    power: bytes


@dataclass(frozen=True)
class Measured:
    """The window of all processes; records by rank, times on each node's own clock."""

    ranks: Sequence[RankPart]
    kept: Sequence[Sequence[StepRecord]]
    chosen: Chosen
    nodes: Sequence[NodePart]

    @property
    def windows(self) -> list[Sequence[StepRecord]]:
        """The measured steps of each rank."""
        return [records[self.chosen.first : self.chosen.end] for records in self.kept]

    @property
    def duration_s(self) -> float:
        """The longest over the ranks, as the group is held until its last rank is through."""
        return max(1e-9 * (steps[-1].end_ns - steps[0].begin_ns) for steps in self.windows)

    @property
    def energy(self) -> GroupEnergy:
        return combine([node.energy for node in self.nodes])

    @property
    def conditions(self) -> Conditions:
        return together([node.conditions for node in self.nodes])

    @property
    def steps(self) -> int:
        return self.chosen.end - self.chosen.first

    @property
    def micro_steps(self) -> int:
        """Per rank."""
        return sum(each.micro.steps for each in self.windows[0])

    @property
    def skipped_steps(self) -> int:
        return max(sum(each.skipped for each in steps) for steps in self.windows)

    @property
    def padded_tokens(self) -> int:
        return sum(each.micro.padded for steps in self.windows for each in steps)

    @property
    def longest_sequence(self) -> int:
        return max(each.micro.length for steps in self.windows for each in steps)

    @property
    def full_texts(self) -> bool:
        """Whether every sequence was as long as the longest, as the laws count them."""
        lengths = {each.micro.length for steps in self.windows for each in steps}
        return self.chosen.alike or (len(lengths) == 1 and all(e.micro.alike for s in self.windows for e in s))

    @property
    def step_s_median(self) -> float:
        return statistics.median(1e-9 * (each.end_ns - each.begin_ns) for each in self.windows[0])

    @property
    def waited_share(self) -> float:
        """Of the window, what passed between steps on the rank that had most of it."""
        return max(1e-9 * sum(each.wait_ns for each in steps) for steps in self.windows) / self.duration_s

    @property
    def verdict(self) -> Verdict:
        sizes = {(each.micro.steps, each.micro.batch) for steps in self.windows for each in steps}
        return verdict(
            TrialFacts(
                self.energy,
                self.duration_s,
                losses=[each.loss for steps in self.windows for each in steps],
                skipped_share=self.skipped_steps / self.steps,
                slept_s=max(part.slept_s for part in self.ranks),
                conditions=self.conditions,
                steps_differ=len(sizes) > 1,
                waited_share=self.waited_share,
            )
        )
