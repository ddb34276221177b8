"""The trials of one device model that wait, in the order in which the scheduler looks at them."""

from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from math import inf

from joulelaw.cluster.scheduling.scheduler import WaitingTrial

# A trial goes before all others once the rest of the study would take no longer than so many times its forecast: it can
# then fail twice and take twice as long as forecast each time (with 30 % of lognormal scatter one in a hundred does),
# and still end with the others. docs/scheduling.md has what smaller numbers cost.
URGENT = 6.0

Shape = tuple[int, int, bool]  # devices, nodes, alone: all that decides where a trial fits
Key = tuple[int, bool, int, Shape]


def shape_of(trial: WaitingTrial) -> Shape:
    """What decides where a trial fits."""
    return trial.count, trial.node_count, trial.alone_on_node


def micro(seconds: float) -> int:
    """Microseconds: sums of whole numbers do not depend on the order in which they come and go.

    >>> micro(1.5)
    1500000
    """
    return round(seconds * 1e6)


@dataclass
class Bucket:
    """Waiting trials of one wave and shape, all baselines or none, longest first. Never empty."""

    key: Key
    trials: list[tuple[float, str]] = field(default_factory=list)  # (-expected_s, trial_id)

    def longest(self, within_s: float = inf) -> str | None:
        """The longest trial whose forecast is at most `within_s`."""
        at = bisect_left(self.trials, (-within_s, ""))
        return self.trials[at][1] if at < len(self.trials) else None

    def after(self, trial: WaitingTrial, number: int) -> list[str]:
        """The next so many trials behind this one."""
        at = bisect_left(self.trials, (-trial.expected_s, trial.trial_id)) + 1
        return [trial_id for _, trial_id in self.trials[at : at + number]]

    @property
    def longest_s(self) -> float:
        return -self.trials[0][0]


class Buckets:
    """Trials by wave, baselines first, big groups first. Looking costs by the bucket, not by the trial."""

    def __init__(self) -> None:
        self._by_key: dict[Key, Bucket] = {}
        self._order: list[Key] = []

    def __iter__(self) -> Iterator[Bucket]:
        return (self._by_key[key] for key in self._order)

    def of(self, trial: WaitingTrial) -> Bucket:
        """The bucket that the trial is in."""
        return self._by_key[_key(trial)]

    def add(self, trial: WaitingTrial) -> None:
        key = _key(trial)
        if key not in self._by_key:
            self._by_key[key] = Bucket(key)
            insort(self._order, key)
        insort(self._by_key[key].trials, (-trial.expected_s, trial.trial_id))

    def remove(self, trial: WaitingTrial) -> None:
        key = _key(trial)
        trials = self._by_key[key].trials
        del trials[bisect_left(trials, (-trial.expected_s, trial.trial_id))]
        if not trials:
            del self._by_key[key]
            self._order.remove(key)


def _key(trial: WaitingTrial) -> Key:
    return trial.wave, not trial.baseline, -trial.count, shape_of(trial)


class WaitingTrials:
    """`open` is what may start; the trials of a case that have to let one of its baselines go first are held back."""

    def __init__(self) -> None:
        self.trials: dict[str, WaitingTrial] = {}
        self.work_us = 0
        """Device-microseconds, by forecast."""
        self.open = Buckets()
        self._held = Buckets()
        self._held_ids: set[str] = set()
        self._baselines: dict[str, dict[str, WaitingTrial]] = {}  # by case
        self._others: dict[str, dict[str, WaitingTrial]] = {}  # by case

    def add(self, trial: WaitingTrial) -> None:
        """ValueError where a trial of its name waits already."""
        if trial.trial_id in self.trials:
            raise ValueError(f"trial {trial.trial_id} waits already")
        self.trials[trial.trial_id] = trial
        self.work_us += micro(trial.expected_s) * trial.count
        self.open.add(trial)
        if trial.case:
            self._of_case(trial)[trial.trial_id] = trial
            self._sort_out(self._others.get(trial.case, {}).values() if trial.baseline else [trial])

    def remove(self, trial_id: str) -> WaitingTrial:
        """KeyError where it does not wait."""
        trial = self.trials.pop(trial_id)
        self.work_us -= micro(trial.expected_s) * trial.count
        (self._held if trial_id in self._held_ids else self.open).remove(trial)
        self._held_ids.discard(trial_id)
        if trial.case:
            del self._of_case(trial)[trial_id]
            self._sort_out(self._others.get(trial.case, {}).values() if trial.baseline else [])
        return trial

    def longest(self, possible: Callable[[Shape], bool]) -> Bucket | None:
        """The bucket with the longest forecast of all that waits and could be formed, held back or not."""
        found = None
        for bucket in (*self.open, *self._held):
            if found is not None and (found.trials[0][0], found.key) <= (bucket.trials[0][0], bucket.key):
                continue
            if possible(bucket.key[-1]):
                found = bucket
        return found

    def first(self, left_s: float, possible: Callable[[Shape], bool]) -> WaitingTrial | None:
        """The trial whose turn it is, among those whose group could be formed: an urgent one, or the first in order.

        `left_s` is what the rest of the study takes at best.
        """
        bucket = self.longest(possible)
        if bucket is None:
            return None
        if bucket.longest_s * URGENT < left_s:
            bucket = next((each for each in self.open if possible(each.key[-1])), bucket)
        trial = self.trials[bucket.trials[0][1]]
        if trial.trial_id not in self._held_ids:
            return trial
        return min(self._before(trial), key=lambda each: (each.wave, -each.expected_s, each.trial_id))

    def _before(self, trial: WaitingTrial) -> list[WaitingTrial]:
        """The baselines that have to start before the trial."""
        if trial.baseline or not trial.case:
            return []
        return [each for each in self._baselines.get(trial.case, {}).values() if each.wave <= trial.wave]

    def _sort_out(self, trials: Iterable[WaitingTrial]) -> None:
        """Holds back and sets free, after something has changed."""
        for trial in trials:
            hold = bool(self._before(trial))
            if hold == (trial.trial_id in self._held_ids):
                continue
            here, there = (self.open, self._held) if hold else (self._held, self.open)
            here.remove(trial)
            there.add(trial)
            self._held_ids ^= {trial.trial_id}

    def _of_case(self, trial: WaitingTrial) -> dict[str, WaitingTrial]:
        return (self._baselines if trial.baseline else self._others).setdefault(trial.case, {})
