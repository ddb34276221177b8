"""What a sweep asks for, on the devices of an inventory: what can run, what is set aside, what is refused."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from joulelaw import InputError
from joulelaw.bench.plan.placement import no_such, too_many
from joulelaw.bench.plan.plan import SetAside
from joulelaw.bench.plan.runnable import Misfit, misfits
from joulelaw.bench.spec.configuration import Configuration
from joulelaw.bench.spec.errors import one_error
from joulelaw.bench.spec.sweep_file import EACH, Sweep
from joulelaw.cluster.nodes.inventory import Node
from joulelaw.cluster.scheduling.feasible import fits, per_node
from joulelaw.model.hardware import Catalogue
from joulelaw.model.tables import WORKLOAD_COLUMNS

# Reasons that the message names when nothing is left; the plan of another sweep shows all of its own.
MOST_REASONS = 3
# What a group is made of.
GROUP = ("gpu_model", "gpu_count", "node_count")


@dataclass(frozen=True)
class Candidate:
    """A configuration on a device model of the inventory; `grid` is None for a baseline that the plan adds."""

    configuration: Configuration
    grid: int | None


Judged = tuple[Candidate, Misfit | None]


def candidates(
    sweep: Sweep, nodes: Sequence[Node], catalogue: Catalogue, missing: Mapping[str, str]
) -> tuple[list[Candidate], tuple[SetAside, ...]]:
    """What can run, and what cannot with the reason. `missing`: strategies whose library is not there, and why.

    Raises:
        InputError: device models or counts that no node has, and workloads that nothing here can run: all that is
            wrong, a line each. With `misfits: set_aside` only if nothing is left.
    """
    asked = [_with_library(each, missing) for each in _on_devices(sweep, nodes)]
    here = [one for one, why in asked if why is None]
    judged = [each for each in asked if each[1] is not None]
    fitting = _judged(here, nodes, catalogue)
    if sweep.devices.misfits == "refuse":
        _refuse(sweep, [*judged, *_impossible(fitting)])
    judged += fitting
    kept = [one for one, why in judged if why is None]
    if not kept:
        raise _nothing_left(sweep, judged)
    judged += _judged(_baselines(kept), nodes, catalogue)
    aside = tuple(
        SetAside(one.configuration, why.reason, one.grid is None, why.kind) for one, why in judged if why is not None
    )
    return [one for one, why in judged if why is None], aside


def _judged(found: Sequence[Candidate], nodes: Sequence[Node], catalogue: Catalogue) -> list[Judged]:
    return list(zip(found, misfits([one.configuration for one in found], nodes, catalogue), strict=True))


def _on_devices(sweep: Sweep, nodes: Sequence[Node]) -> list[Judged]:
    """What is asked, with "each" replaced by the device models of the inventory that form such a group."""
    there = per_node(nodes)
    found: dict[Configuration, Judged] = {}
    for asked in sweep.asked:
        wanted, count, node_count = (getattr(asked.configuration, name) for name in GROUP)
        models = list(there) if wanted == EACH else [wanted] if wanted in there else []
        enough = [model for model in models if fits(there[model], count, node_count)]
        if not enough:
            counts = {model: there[model] for model in models}
            why = too_many(count, node_count, counts) if models else no_such(wanted, there)
            found.setdefault(asked.configuration, (Candidate(asked.configuration, asked.grid), why))
        for model in enough:
            configuration = replace(asked.configuration, gpu_model=model)
            found.setdefault(configuration, (Candidate(configuration, asked.grid), None))
    return list(found.values())


def _with_library(judged: Judged, missing: Mapping[str, str]) -> Judged:
    one, why = judged
    strategy = one.configuration.strategy
    if why is not None or strategy not in missing:
        return judged
    reason = f"{strategy} cannot run: {missing[strategy]}"
    return one, Misfit("strategy", reason, "install it, or choose another strategy", missing[strategy])


def _baselines(kept: Sequence[Candidate]) -> list[Candidate]:
    """The same work on one device of every configuration, where the sweep does not ask for it."""
    there = {one.configuration for one in kept}
    wanted = dict.fromkeys(one.configuration.single_device() for one in kept)
    return [Candidate(each, None) for each in wanted if each not in there]


def _refuse(sweep: Sweep, judged: Sequence[Judged]) -> None:
    errors = dict.fromkeys(_told(sweep, one, why) for one, why in judged if why is not None)
    if errors:
        raise one_error([InputError(what, where=where, remedy=remedy) for where, what, remedy in errors])


def _impossible(judged: Sequence[Judged]) -> list[Judged]:
    """A workload that can run in none of the ways asked for is a mistake; one that cannot run in some is set aside."""
    by_workload: dict[tuple[Any, ...], list[Judged]] = {}
    for one, why in judged:
        workload = tuple(getattr(one.configuration, name) for name in WORKLOAD_COLUMNS)
        by_workload.setdefault(workload, []).append((one, why))
    return [
        min(ways, key=lambda way: way[1].missing_bytes if way[1] else 0.0)
        for ways in by_workload.values()
        if all(why is not None for _, why in ways)
    ]


def _told(sweep: Sweep, one: Candidate, why: Misfit) -> tuple[str, str, str]:
    assert one.grid is not None, "a baseline is never a mistake"
    return sweep.where(one.grid, why.axis), why.reason, why.remedy


def _nothing_left(sweep: Sweep, judged: Sequence[Judged]) -> InputError:
    reasons = Counter(why.kind for _, why in judged if why is not None).most_common(MOST_REASONS)
    what = f"nothing here can run any of the {len(judged)} configurations: "
    what += "; ".join(f"{count} x {kind}" for kind, count in reasons)
    return InputError(what, where=sweep.file.where(("devices", "misfits")), remedy="make the sizes or counts smaller")
