"""What the roofline's coefficients multiply: counted quantities of each row, per micro-step."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from joulelaw.model.columns import has
from joulelaw.model.laws.base import Rows
from joulelaw.model.laws.roofline_terms import HOST_BOUNDARIES, SHARDED, TENSOR, ZERO
from joulelaw.model.power_cap import relative_clock, relative_energy

Array = npt.NDArray[np.float64]


def time_features(rows: Rows) -> dict[str, Array]:
    """What the duration's coefficients multiply, per micro-step and device; what happens per step is shared out.

    Where a power limit below the default holds the device back, its own work takes longer by the clock.
    """
    return {**_device_features(rows), **_host_features(rows), **_link_features(rows)}


def _device_features(rows: Rows) -> dict[str, Array]:
    """Seconds of the device at its data sheet's speeds, slowed by its clock."""
    c = rows.column
    clock = relative_clock(c("power_limit_w"), c("default_power_limit_w"))
    flop_s = executed_flop(rows) / (clock * c("peak_flop_per_s"))
    row_s = c("row_flop_per_micro_step") / (clock * c("peak_flop_per_s"))
    byte_s = 1.0 / (clock * c("bandwidth_bytes_per_s"))
    is_fp32 = has(rows.table, "precision", ["fp32"])
    return {
        "fp32_s": np.where(is_fp32, flop_s, 0.0),
        "fp32_row_s": np.where(is_fp32, row_s, 0.0),
        "reduced_s": np.where(is_fp32, 0.0, flop_s),
        "reduced_row_s": np.where(is_fp32, 0.0, row_s),
        "gemm_s": c("gemm_bytes_per_micro_step") * byte_s,
        "elementwise_s": c("elementwise_bytes_per_micro_step") * byte_s,
        "optimizer_s": c("optimizer_bytes_per_step") * _steps(rows) * byte_s,
    }


def _host_features(rows: Rows) -> dict[str, Array]:
    """What the host does: kernels to launch, steps, layers of sharded strategies, tokens of a node's input."""
    c, steps, layers = rows.column, _steps(rows), rows.column("num_layers")

    def layers_of(strategies: Sequence[str]) -> Array:
        return np.asarray(layers * has(rows.table, "strategy", strategies))

    return {
        "kernels": kernels(rows),
        "one": np.ones(len(rows)),
        "steps": steps,
        "step_layers": layers * steps,
        "fsdp_layers": layers_of(SHARDED),
        "zero_layers": layers_of(ZERO),
        "tensor_layers": layers_of(TENSOR),
        "input_tokens": c("tokens_per_micro_step") * c("data_parallel") / c("node_count"),
    }


def _link_features(rows: Rows) -> dict[str, Array]:
    """Seconds of messages at the link's speed, collectives to start, and whether there is a group to wait for."""
    c, gpus = rows.column, rows.column("gpu_count")
    sent_s = sent_bytes(rows) / c("link_bytes_per_s")
    return {
        "sent_s": sent_s,
        # A ring of N sends (N-1)/N of a message: the whole of it, whatever the ring.
        "message_s": sent_s * gpus / np.maximum(gpus - 1, 1),
        "collectives": c("collectives_per_micro_step") + c("collectives_per_step") * _steps(rows),
        "in_group": (gpus > 1).astype(float),
    }


def _steps(rows: Rows) -> Array:
    """Optimizer steps of a micro-step."""
    return 1.0 / rows.column("grad_accumulation")


# Clocks and voltage rise with the load: power beside that of the work itself, more than in proportion.
BOOST_POWER = 1.5


@dataclass(frozen=True)
class Timed:
    """What the energy is told of the time of a micro-step."""

    micro_step_s: Array
    load: Array
    """Share of it that a device works, waiting in a collective counted half."""
    elementwise_passes: float


def energy_features(rows: Rows, limit_w: Array, timed: Timed) -> dict[str, Array]:
    """What the energy's coefficients multiply: joules of all devices per micro-step at their default power limit.

    Reference energies are limit / peak per FLOP and limit / bandwidth per byte; (limit - idle) in their place, with
    idle a share kappa_static of the limit, is the same law with another name for kappa. `limit_w` is the default
    limit: an enforced one below it makes work slower and cheaper (`model.power_cap`), and changes no static power.
    """
    c = rows.column
    group_w = c("gpu_count") * limit_w
    clock = relative_clock(c("power_limit_w"), c("default_power_limit_w"))
    work_w = group_w * relative_energy(clock)
    moved = c("gemm_bytes_per_micro_step") + c("optimizer_bytes_per_step") / c("grad_accumulation")
    passed = timed.elementwise_passes * c("elementwise_bytes_per_micro_step")
    features = {
        "limit_j": group_w * timed.micro_step_s,
        "boost_j": work_w * clock * timed.micro_step_s * timed.load**BOOST_POWER,
        "flop_j": work_w * executed_flop(rows) / c("peak_flop_per_s"),
        "memory_j": work_w * moved / c("bandwidth_bytes_per_s"),
        "elementwise_j": work_w * passed / c("bandwidth_bytes_per_s"),
        "sent_j": group_w * sent_bytes(rows) / c("link_bytes_per_s"),
        "kernel_w": group_w * kernels(rows),
    }
    for name in HOST_BOUNDARIES:
        features[f"host_s[{name}]"] = np.where(
            has(rows.table, "boundary", [name]), c("node_count") * timed.micro_step_s, 0.0
        )
    return features


def executed_flop(rows: Rows) -> Array:
    """The model's FLOPs and those that checkpointing repeats. What fused attention repeats is its efficiency's part."""
    return np.asarray(rows.column("flop_per_micro_step") + rows.column("recomputed_flop_per_micro_step"))


def sent_bytes(rows: Rows) -> Array:
    """Bytes each device sends per micro-step, those of the optimizer step shared out."""
    c = rows.column
    return np.asarray(c("comm_bytes_per_micro_step") + c("comm_bytes_per_step") / c("grad_accumulation"))


def kernels(rows: Rows) -> Array:
    """Launches per micro-step, those of the optimizer step shared out."""
    c = rows.column
    return np.asarray(c("kernels_per_micro_step") + c("kernels_per_step") / c("grad_accumulation"))
