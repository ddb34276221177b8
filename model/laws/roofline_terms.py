"""The roofline's coefficients, and the terms of time and energy that they make, as two tables.

Every term is a counted quantity times powers of coefficients, so a block of terms and its slope in the logarithms
of the coefficients are two matrix products, for any number of rows at once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from joulelaw.model.fitting import Positive
from joulelaw.model.laws.base import Rows

Array = npt.NDArray[np.float64]

SHARDED = ("fsdp", "fsdp_tp")
ZERO = ("zero1", "zero2", "zero3")
TENSOR = ("tp", "fsdp_tp")
# Boundaries that hold more than the devices: there the host's power is a coefficient, elsewhere it is 0.
HOST_BOUNDARIES = ("gpu_host_modelled", "node_dc", "node_ac")

# Priors: what ordinary hardware does, a factor 10 either way unless said otherwise. They decide only what the rows
# leave open, and are what a forecast without any fit is made of. Launches cost 5 to 10 us, eager frameworks about
# twice that; activations are written and read again forward and backward, more often in eager mode; rings start in
# tens of us; FSDP, DeepSpeed and DTensor spend some 0.1 to 1 ms a layer in Python.
DURATION = (
    Positive("eta_flop", "duration", "1", "share of the peak FLOP/s that fp32 products reach", 0.5, 3.0, 1e-3, 1.0),
    Positive("eta_flop_reduced", "duration", "1", "the same of tf32, fp16 and bf16 products", 0.5, 3.0, 1e-3, 1.0),
    Positive("eta_bandwidth", "duration", "1", "share of the memory bandwidth reached", 0.7, 3.0, 1e-3, 1.0),
    Positive("elementwise_passes", "duration", "1", "times the stored activations cross the memory bus", 4.0, 3.0),
    Positive("kernel_s", "duration", "s", "host time to launch one kernel", 1e-5),
    Positive("micro_step_s", "duration", "s", "host time of a micro-step whatever its size", 1e-3),
    Positive("step_s", "duration", "s", "host time of an optimizer step whatever its size", 1e-3),
    Positive("overlap", "duration", "1", "sharpness of the smooth maximum, less 1 (0: a sum)", 2.0, 3.0, 0.01, 30),
    Positive("eta_link", "duration", "1", "share of the link's bytes per second reached", 0.5, 3.0, 1e-3, 1.0),
    Positive("collective_s", "duration", "s", "time to start one collective", 3e-5),
    Positive("group_s", "duration", "s", "time a micro-step waits for the slowest rank of a group", 1e-3),
    Positive("fsdp_layer_s", "duration", "s", "host time per layer and micro-step that FSDP adds", 3e-4),
    Positive("zero_layer_s", "duration", "s", "host time per layer and micro-step that ZeRO adds", 3e-4),
    Positive("tensor_layer_s", "duration", "s", "host time per layer and micro-step that TP adds", 1e-3),
)
ENERGY = (
    Positive("kappa_static", "energy", "1", "share of the power limit drawn at all times", 0.25, 3.0, 1e-4, 2.0),
    Positive("kappa_flop", "energy", "1", "energy of a FLOP, over power limit / peak", 0.5, 5.0),
    Positive("kappa_byte", "energy", "1", "energy of a byte of memory traffic, over power limit / bandwidth", 0.3, 5.0),
    Positive("kappa_link", "energy", "1", "energy of a byte sent, over power limit / link", 0.1, 5.0),
    Positive("kappa_kernel_s", "energy", "s", "energy of a kernel whatever its size, over power limit", 2e-6, 5.0),
)
HOST = {
    boundary: Positive(f"host_w[{boundary}]", "energy", "W", "power of a node beside its devices", 100.0)
    for boundary in HOST_BOUNDARIES
}


@dataclass(frozen=True)
class Term:
    """One term: the block it is summed in, its counted feature, and the power of each coefficient in it."""

    block: str
    feature: str
    powers: Mapping[str, int]


# Seconds of one micro-step. The first three blocks overlap; what is serial is added.
OVERLAPPING = ("arithmetic", "traffic", "host")
DURATION_TERMS = (
    Term("arithmetic", "fp32_s", {"eta_flop": -1}),
    Term("arithmetic", "reduced_s", {"eta_flop_reduced": -1}),
    Term("traffic", "gemm_s", {"eta_bandwidth": -1}),
    Term("traffic", "elementwise_s", {"eta_bandwidth": -1, "elementwise_passes": 1}),
    Term("host", "kernels", {"kernel_s": 1}),
    Term("host", "one", {"micro_step_s": 1}),
    Term("host", "fsdp_layers", {"fsdp_layer_s": 1}),
    Term("host", "zero_layers", {"zero_layer_s": 1}),
    Term("host", "tensor_layers", {"tensor_layer_s": 1}),
    Term("serial", "sent_s", {"eta_link": -1}),
    Term("serial", "collectives", {"collective_s": 1}),
    Term("serial", "in_group", {"group_s": 1}),
    Term("serial", "optimizer_s", {"eta_bandwidth": -1}),
    Term("serial", "step_kernels", {"kernel_s": 1}),
    Term("serial", "steps", {"step_s": 1}),
)
# Joules of all devices per micro-step. Energy does not overlap: everything is added.
ENERGY_TERMS = (
    Term("sum", "limit_j", {"kappa_static": 1}),
    Term("sum", "flop_j", {"kappa_flop": 1}),
    Term("sum", "memory_j", {"kappa_byte": 1}),
    Term("sum", "sent_j", {"kappa_link": 1}),
    Term("sum", "kernel_w", {"kappa_kernel_s": 1}),
    *(Term("sum", f"host_s[{boundary}]", {f"host_w[{boundary}]": 1}) for boundary in HOST_BOUNDARIES),
)


@dataclass(frozen=True)
class Terms:
    """Terms laid out for evaluation: features (rows x terms), powers (terms x coefficients), block of each term."""

    features: Array
    powers: Array
    blocks: tuple[str, ...]

    @classmethod
    def of(cls, terms: Sequence[Term], features: Mapping[str, Array], names: Sequence[str]) -> "Terms":
        """The terms whose coefficients are all in `names`; a coefficient that is not there makes its terms 0."""
        used = [term for term in terms if set(term.powers) <= set(names)]
        powers = np.array([[float(term.powers.get(name, 0)) for name in names] for term in used])
        return cls(np.column_stack([features[term.feature] for term in used]), powers, tuple(t.block for t in used))

    def values(self, logs: Array) -> Array:
        """Each term of each row, given the logarithms of the coefficients."""
        return np.asarray(self.features * np.exp(self.powers @ logs))

    def block(self, name: str) -> npt.NDArray[np.intp]:
        return np.flatnonzero([block == name for block in self.blocks])


def time_features(rows: Rows) -> dict[str, Array]:
    """What the duration's coefficients multiply, per micro-step and device; what happens per step is shared out."""
    c = rows.column
    steps = 1.0 / c("grad_accumulation")
    layers = c("num_layers")
    strategy = rows.table["strategy"]

    def layers_of(strategies: Sequence[str]) -> Array:
        return np.asarray(layers * strategy.isin(strategies).to_numpy())

    flop_s = executed_flop(rows) / c("peak_flop_per_s")
    is_fp32 = (rows.table["precision"] == "fp32").to_numpy()
    return {
        "fp32_s": np.where(is_fp32, flop_s, 0.0),
        "reduced_s": np.where(is_fp32, 0.0, flop_s),
        "gemm_s": c("gemm_bytes_per_micro_step") / c("bandwidth_bytes_per_s"),
        "elementwise_s": c("elementwise_bytes_per_micro_step") / c("bandwidth_bytes_per_s"),
        "optimizer_s": c("optimizer_bytes_per_step") * steps / c("bandwidth_bytes_per_s"),
        "kernels": c("kernels_per_micro_step"),
        "step_kernels": c("kernels_per_step") * steps,
        "one": np.ones(len(rows)),
        "steps": steps,
        "fsdp_layers": layers_of(SHARDED),
        "zero_layers": layers_of(ZERO),
        "tensor_layers": layers_of(TENSOR),
        "sent_s": sent_bytes(rows) / c("link_bytes_per_s"),
        "collectives": c("collectives_per_micro_step") + c("collectives_per_step") * steps,
        "in_group": (c("gpu_count") > 1).astype(float),
    }


def energy_features(rows: Rows, limit_w: Array, micro_step_s: Array, elementwise_passes: float) -> dict[str, Array]:
    """What the energy's coefficients multiply: joules of all devices per micro-step at the power limit.

    Reference energies are limit / peak per FLOP and limit / bandwidth per byte; (limit - idle) in their place, with
    idle a share kappa_static of the limit, is the same law with another name for kappa.
    """
    c = rows.column
    group_w = c("gpu_count") * limit_w
    moved = c("gemm_bytes_per_micro_step") + elementwise_passes * c("elementwise_bytes_per_micro_step")
    moved = moved + c("optimizer_bytes_per_step") / c("grad_accumulation")
    features = {
        "limit_j": group_w * micro_step_s,
        "flop_j": group_w * executed_flop(rows) / c("peak_flop_per_s"),
        "memory_j": group_w * moved / c("bandwidth_bytes_per_s"),
        "sent_j": group_w * sent_bytes(rows) / c("link_bytes_per_s"),
        "kernel_w": group_w * (c("kernels_per_micro_step") + c("kernels_per_step") / c("grad_accumulation")),
    }
    boundary = rows.table["boundary"].astype(str).to_numpy()
    for name in HOST_BOUNDARIES:
        features[f"host_s[{name}]"] = np.where(boundary == name, c("node_count") * micro_step_s, 0.0)
    return features


def executed_flop(rows: Rows) -> Array:
    """The model's FLOPs and those that checkpointing repeats. What fused attention repeats is its efficiency's part."""
    return np.asarray(rows.column("flop_per_micro_step") + rows.column("recomputed_flop_per_micro_step"))


def sent_bytes(rows: Rows) -> Array:
    """Bytes each device sends per micro-step, those of the optimizer step shared out."""
    c = rows.column
    return np.asarray(c("comm_bytes_per_micro_step") + c("comm_bytes_per_step") / c("grad_accumulation"))
