"""How long a plan will take: the study's own scheduler plays it through, with trials as long as they are forecast."""

from collections import Counter
from collections.abc import Collection, Sequence

from joulelaw.bench.plan.plan import PlannedTrial
from joulelaw.bench.study.lineup import waiting_trial
from joulelaw.cluster.nodes.inventory import Node
from joulelaw.cluster.scheduling.simulator import Fate, simulate
from joulelaw.cluster.streams.metering import MeterInfo


def expected_wall_s(
    trials: Sequence[PlannedTrial], nodes: Sequence[Node], one_trial_nodes: Collection[str] = ()
) -> float | None:
    """Seconds from the first trial's start to the last one's end, if none fails; None where a duration is unknown.

    On `one_trial_nodes` trials run one at a time. Between trials no time passes.
    """
    if any(trial.price.trial_s is None for trial in trials):
        return None
    sizes = {node.node_id: Counter(device.model for device in node.devices) for node in nodes}
    timeline = simulate(
        [waiting_trial(trial) for trial in trials],
        sizes,
        lambda trial, attempt: Fate(trial.expected_s),
        one_trial_nodes=one_trial_nodes,
    )
    return None if timeline.stranded else timeline.makespan_s


def one_trial_nodes(nodes: Sequence[Node], meter: MeterInfo | None, *, share_node: bool) -> list[str]:
    """The nodes where a trial is alone: all where the sweep says so, or the meter cannot tell a node's devices apart.

    Of a cluster's meters nothing is known before they are opened.
    """
    together = meter is not None and any(len(devices) > 1 for devices in meter.covers.values())
    return [node.node_id for node in nodes] if together or not share_node else []
