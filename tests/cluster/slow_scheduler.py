"""The scheduler's rules once more, as plainly as they can be written: everything is looked at anew at each decision."""

from dataclasses import dataclass, field
from math import inf

from joulelaw.cluster.scheduling.scheduler import Assignment, WaitingTrial

URGENT = 6.0
OVERRUN = 0.2
PATIENCE = 0.1


@dataclass
class Running:
    trial: WaitingTrial
    nodes: tuple[str, ...]
    began_s: float

    def end_s(self, now_s: float) -> float:
        expected_s = self.trial.expected_s
        while self.began_s + expected_s <= now_s:
            expected_s *= 1 + OVERRUN
        return self.began_s + expected_s


@dataclass
class SlowScheduler:
    """`free` is node -> model -> devices that nobody holds; what waits and runs are plain lists."""

    free: dict[str, dict[str, int]]
    one_trial: set[str] = field(default_factory=set)
    waiting: list[WaitingTrial] = field(default_factory=list)
    running: list[Running] = field(default_factory=list)
    used: dict[str, set[str]] = field(default_factory=dict)
    latest: dict[str, tuple[WaitingTrial, float]] = field(default_factory=dict)
    """By model whose turn it is, and how long it can be kept waiting."""

    def next(self, now_s: float) -> Assignment | None:
        models = sorted({t.model for t in self.waiting}, key=lambda model: (-self.left_s(model, now_s), model))
        reserved = []
        for model in models:
            first = self.first(model, now_s)
            if first is None:
                self.latest.pop(model, None)
                continue
            if nodes := self.choose(first, {}):
                self.latest.pop(model, None)
                if first.expected_s * URGENT >= self.left_s(model, now_s):
                    return Assignment(first.trial_id, nodes)
                return self.fresh(first, nodes, {})
            before = self.latest.pop(model, None)
            if found := self.reservation(first, now_s):
                start_s, places = found
                same = before is not None and before[0] == first
                latest_s = max(start_s, before[1] if before and same else start_s + PATIENCE * first.expected_s)
                self.latest[model] = first, latest_s
                reserved.append((first, latest_s, {n: self.spare(first, n, start_s, now_s) for n in places}))
        for model in models:
            for trial in sorted((t for t in self.waiting if t.model == model), key=order):
                if self.baselines_before(trial):
                    continue
                limits: dict[str, int] = {}
                for first, latest_s, spare in reserved:
                    if trial.expected_s > latest_s - now_s:
                        for node in spare:
                            if self.wants_all(trial, node) or self.wants_all(first, node):
                                limits[node] = 0
                            elif first.model == model:
                                limits[node] = spare[node]
                if chosen := self.choose(trial, limits):
                    return self.fresh(trial, chosen, limits)
        return None

    def fresh(self, trial: WaitingTrial, nodes: tuple[str, ...], limits: dict[str, int]) -> Assignment:
        """The first of the trial and the 16 like it that come next that ran on none of its nodes before."""
        mine = [t for t in self.waiting if t.model == trial.model and not self.baselines_before(t)]
        behind = sorted((t for t in mine if order(t)[:5] == order(trial)[:5] and order(t) > order(trial)), key=order)
        for like, places in [(trial, nodes), *((t, self.choose(t, limits)) for t in behind[:16])]:
            if places and not self.used.get(like.configuration, set()) & set(places):
                return Assignment(like.trial_id, places)
        return Assignment(trial.trial_id, nodes)

    def first(self, model: str, now_s: float) -> WaitingTrial | None:
        mine = [t for t in self.waiting if t.model == model and self.is_possible(t)]
        if not mine:
            return None
        held = [t for t in mine if self.baselines_before(t)]
        longest = min(mine, key=lambda t: (-t.expected_s, order(t)[:5], t in held, t.trial_id))
        ready = [t for t in mine if t not in held]
        trial = longest
        if longest.expected_s * URGENT < self.left_s(model, now_s) and ready:
            trial = min(ready, key=order)
        before = self.baselines_before(trial)
        return min(before, key=lambda t: (t.wave, -t.expected_s, t.trial_id)) if before else trial

    def left_s(self, model: str, now_s: float) -> float:
        work_s = sum(t.expected_s * t.count for t in self.waiting if t.model == model)
        work_s += sum((r.end_s(now_s) - now_s) * r.trial.count for r in self.running if r.trial.model == model)
        total = sum(self.size(model, node) for node in self.free)
        return round(1e6 * work_s / total) * 1e-6 if total else inf

    def baselines_before(self, trial: WaitingTrial) -> list[WaitingTrial]:
        if trial.baseline or not trial.case:
            return []
        mine = [t for t in self.waiting if t.model == trial.model]
        return [t for t in mine if t.baseline and t.case == trial.case and t.wave <= trial.wave]

    def there(self, node: str) -> list[Running]:
        return [r for r in self.running if node in r.nodes]

    def size(self, model: str, node: str) -> int:
        if model not in self.free[node]:
            return 0
        return self.free[node][model] + sum(share(r.trial) for r in self.there(node) if r.trial.model == model)

    def is_closed(self, node: str) -> bool:
        return any(self.wants_all(r.trial, node) for r in self.there(node))

    def wants_all(self, trial: WaitingTrial, node: str) -> bool:
        return trial.alone_on_node or node in self.one_trial

    def is_possible(self, trial: WaitingTrial) -> bool:
        enough = [node for node in self.free if self.size(trial.model, node) >= share(trial)]
        return trial.count % trial.node_count == 0 and len(enough) >= trial.node_count

    def choose(self, trial: WaitingTrial, limits: dict[str, int]) -> tuple[str, ...] | None:
        fitting = []
        for node, devices in self.free.items():
            free = devices.get(trial.model, 0)
            busy = self.is_closed(node) or (trial.alone_on_node and self.there(node))
            if not busy and free >= share(trial) and limits.get(node, free) >= share(trial):
                fitting.append((node in self.used.get(trial.configuration, ()), free, node))
        if len(fitting) < trial.node_count:
            return None
        return tuple(node for _, _, node in sorted(fitting)[: trial.node_count])

    def free_then(self, model: str, node: str, time_s: float, now_s: float) -> int:
        """Devices that are free at a later time, by the forecasts of what runs."""
        if model not in self.free[node]:
            return 0
        if self.is_closed(node):
            over = all(r.end_s(now_s) <= time_s for r in self.there(node))
            return self.size(model, node) if over else 0
        ending = [r for r in self.there(node) if r.trial.model == model and r.end_s(now_s) <= time_s]
        return self.free[node][model] + sum(share(r.trial) for r in ending)

    def spare(self, trial: WaitingTrial, node: str, start_s: float, now_s: float) -> int:
        return self.free_then(trial.model, node, start_s, now_s) - share(trial)

    def reservation(self, trial: WaitingTrial, now_s: float) -> tuple[float, list[str]] | None:
        """When it can start, and where: the first moment at which enough nodes have room."""
        for time_s in [-inf, *sorted(r.end_s(now_s) for r in self.running)]:
            ready = {}
            for node in self.free:
                when = self.ready_s(trial, node, now_s)
                if when <= time_s:
                    ready[node] = when
            if len(ready) >= trial.node_count:
                return time_s, sorted(ready, key=lambda node: (ready[node], node))[: trial.node_count]
        return None

    def ready_s(self, trial: WaitingTrial, node: str, now_s: float) -> float:
        if self.size(trial.model, node) < share(trial):
            return inf
        ends = [r.end_s(now_s) for r in self.there(node)]
        if self.wants_all(trial, node):
            return max(ends, default=-inf)
        moments = [-inf, *sorted(ends)]
        return next(t for t in moments if self.free_then(trial.model, node, t, now_s) >= share(trial))


def order(trial: WaitingTrial) -> tuple[int, bool, int, int, bool, float, str]:
    return (
        *(trial.wave, not trial.baseline, -trial.count, trial.node_count, trial.alone_on_node),
        *(-trial.expected_s, trial.trial_id),
    )


def share(trial: WaitingTrial) -> int:
    return trial.count // trial.node_count
