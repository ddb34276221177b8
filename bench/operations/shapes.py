"""Which shapes of a sweep have their operations timed: each distinct one, if a device has the memory and the time."""

from collections.abc import Sequence
from dataclasses import replace

from joulelaw import InputError
from joulelaw.bench.plan.plan import Plan
from joulelaw.bench.plan.price import counted
from joulelaw.bench.plan.runnable import misfits
from joulelaw.bench.spec.configuration import Configuration
from joulelaw.bench.study.single_trial import chosen_trial
from joulelaw.cluster.nodes.inventory import Node
from joulelaw.model.hardware import Catalogue

# At the device's peak, of one micro-step: larger shapes would take minutes each. A GPU's never come near it.
MOST_PEAK_S = 2.0


def distinct_shapes(plan: Plan, trial_id: str | None = None) -> list[Configuration]:
    """One configuration for each shape of the plan's single-device trials, the one of the fewest layers.

    Depth, accumulation and what only trainings have (checkpoints, texts, compilation) do not change an operation.

    Raises:
        InputError: an unknown trial, or one on several devices.
    """
    if trial_id is not None:
        configuration = chosen_trial(plan, trial_id).spec.configuration
        if configuration.strategy != "single":
            what = f"trial {trial_id} is on {configuration.gpu_count} devices ({configuration.strategy})"
            raise InputError(
                what, where="--id", remedy="operations are timed on one: name a trial with strategy single"
            )
        return [_shape(configuration)]
    trials = [each.spec.configuration for each in plan.trials if each.spec.configuration.strategy == "single"]
    found: dict[Configuration, Configuration] = {}
    for each in sorted(map(_shape, trials), key=lambda configuration: configuration.num_layers):
        found.setdefault(replace(each, num_layers=1), each)
    return list(found.values())


def _shape(configuration: Configuration) -> Configuration:
    return replace(
        configuration,
        grad_accumulation=1,
        learning_rate=1e-4,
        activation_checkpointing=False,
        torch_compile=False,
        checkpoint="",
        data=None,
    )


def by_memory(
    asked: Sequence[Configuration], nodes: Sequence[Node], catalogue: Catalogue
) -> tuple[list[Configuration], list[Configuration]]:
    """Those that fit with unfused attention, whose scores are timed whatever the model runs, and the others."""
    unfused = [replace(each, attention="eager", num_layers=1) for each in asked]
    judged = list(zip(asked, misfits(unfused, nodes, catalogue), strict=True))
    return [each for each, why in judged if why is None], [each for each, why in judged if why is not None]


def by_length(asked: Sequence[Configuration], catalogue: Catalogue) -> tuple[list[Configuration], list[Configuration]]:
    """Those whose micro-step can be timed in seconds, and the others; the smallest come first."""
    rows = counted(asked, catalogue)
    peak_s = [row["flop_per_micro_step"] / row["peak_flop_per_s"] for row in rows]
    pairs = sorted(zip(peak_s, asked, strict=True), key=lambda pair: pair[0])
    fitting = [configuration for seconds, configuration in pairs if seconds <= MOST_PEAK_S]
    return fitting, [configuration for seconds, configuration in pairs if seconds > MOST_PEAK_S]


def set_aside_by_plan(plan: Plan) -> dict[str, int]:
    """Configurations that the plan itself set aside, by reason: those that do not fit in memory among them."""
    found: dict[str, int] = {}
    for each in plan.set_aside:
        if each.configuration.strategy == "single":
            found[each.kind] = found.get(each.kind, 0) + 1
    return found


def shape_label(configuration: Configuration) -> str:
    """A shape in a few words, for people."""
    c = configuration
    width = f" i{c.input_size}" if c.input_size else ""
    return (
        f"{c.model_family} L{c.num_layers} h{c.hidden_size}{width} s{c.sequence_length} B{c.micro_batch_size} "
        f"a{c.num_heads} {c.precision}"
    )
