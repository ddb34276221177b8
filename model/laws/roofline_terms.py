"""The roofline's coefficients, what a device may correct of them, and the terms of time and energy that they make.

Every term is a counted quantity times powers of coefficients.
"""

from dataclasses import dataclass

from joulelaw.model.fitting import Positive
from joulelaw.model.laws.smooth import Term

SHARDED = ("fsdp", "fsdp_tp")
ZERO = ("zero1", "zero2", "zero3")
TENSOR = ("tp", "fsdp_tp")
# Boundaries that hold more than the devices: there the host's power is a coefficient, elsewhere it is 0.
HOST_BOUNDARIES = ("gpu_host_modelled", "node_dc", "node_ac")

# Priors: what ordinary hardware does, and a factor either way, as a standard deviation. They decide only what the
# rows leave open, and are what a forecast without any fit is made of. Eager frameworks launch a kernel in 10 to 50 us;
# activations are written and read again forward and backward, more often in eager mode; a product's tile has 128
# rows; an optimizer that is not fused launches some ten kernels a tensor; rings start in tens of us; FSDP, DeepSpeed
# and DTensor spend some 0.1 to 1 ms a layer in Python; tokenized text is collated at about a million tokens a second.
DURATION = (
    Positive("eta_flop", "duration", "1", "share of the peak FLOP/s that fp32 products reach", 0.5, 3.0, 1e-3, 1.0),
    Positive("eta_flop_reduced", "duration", "1", "the same of tf32, fp16 and bf16 products", 0.5, 3.0, 1e-3, 0.85),
    Positive("fill_rows", "duration", "1", "rows that a product costs beside its own", 128.0, 3.0),
    Positive("eta_bandwidth", "duration", "1", "share of the memory bandwidth reached", 0.7, 2.0, 1e-3, 0.85),
    Positive("elementwise_passes", "duration", "1", "times the stored activations cross the memory bus", 4.0, 2.0),
    Positive("kernel_s", "duration", "s", "host time to launch one kernel", 2e-5, 2.5),
    Positive("micro_step_s", "duration", "s", "host time of a micro-step whatever its size", 1e-3, 5.0),
    Positive("step_s", "duration", "s", "host time of an optimizer step whatever its size", 1e-3, 5.0),
    Positive("step_launches", "duration", "1", "launches of a layer in an optimizer step beside the fused", 20.0, 2.0),
    Positive("overlap", "duration", "1", "sharpness of the smooth maximum, less 1 (0: a sum)", 2.0, 3.0, 0.01, 30),
    Positive("eta_link", "duration", "1", "share of the link's bytes per second reached", 0.5, 3.0, 1e-3, 1.0),
    Positive("staging", "duration", "1", "times a message crosses the link beside what its ring sends", 0.2, 3.0),
    Positive("collective_s", "duration", "s", "time to start one collective", 5e-5, 2.5),
    Positive("group_s", "duration", "s", "time a micro-step waits for the slowest rank of a group", 1e-3, 5.0),
    Positive("input_token_s", "duration", "s", "time of a node to prepare one token of input", 1e-6, 5.0),
    Positive("fsdp_layer_s", "duration", "s", "host time per layer and micro-step that FSDP adds", 2e-4, 4.0),
    Positive("zero_layer_s", "duration", "s", "host time per layer and micro-step that ZeRO adds", 2e-4, 4.0),
    Positive("tensor_layer_s", "duration", "s", "host time per layer and micro-step that TP adds", 1e-3, 4.0),
)
ENERGY = (
    Positive("kappa_static", "energy", "1", "share of the power limit drawn at all times", 0.25, 3.0, 1e-4, 2.0),
    Positive("kappa_flop", "energy", "1", "energy of a FLOP, over power limit / peak", 0.5, 5.0),
    Positive("kappa_byte", "energy", "1", "energy of a byte of memory traffic, over power limit / bandwidth", 0.3, 5.0),
    Positive("kappa_link", "energy", "1", "energy of a byte sent, over power limit / link", 0.1, 5.0),
    Positive("kappa_kernel_s", "energy", "s", "energy of a kernel whatever its size, over power limit", 2e-6, 5.0),
    Positive("kappa_boost", "energy", "1", "share of the power limit that a full load adds by higher clocks", 0.3, 3.0),
)
HOST = {
    boundary: Positive(f"host_w[{boundary}]", "energy", "W", "power of a node beside its devices", 100.0)
    for boundary in HOST_BOUNDARIES
}


@dataclass(frozen=True)
class Correction:
    """What one device model, or the machines it sits in, multiplies some coefficients by: `factor` is how far that is
    expected to be from 1, either way, as a standard deviation."""

    name: str
    moves: tuple[str, ...]
    factor: float
    meaning: str


# Corrections of a device model that no row has: what is expected of it, given those that were measured.
UNMEASURED = "*"
# Data sheets are kept to within some 10 %, and what is reached of them beyond 85 % is a device's own; hosts, links and
# what is drawn at rest differ by a factor 2.
HOST_SECONDS = tuple(c.name for c in DURATION if c.unit == "s")
CORRECTIONS = {
    "duration": (
        Correction("compute", ("eta_flop", "eta_flop_reduced"), 1.1, "its arithmetic, against what all devices share"),
        Correction("bandwidth", ("eta_bandwidth",), 1.1, "its memory's speed, against what all devices share"),
        Correction("link", ("eta_link",), 2.0, "its link's speed, against what all devices share"),
        Correction("host", HOST_SECONDS, 2.0, "its host's seconds, against what all devices share"),
    ),
    "energy": (
        Correction("static", ("kappa_static",), 2.0, "its static power, against what all devices share"),
        Correction(
            "dynamic",
            ("kappa_flop", "kappa_byte", "kappa_link", "kappa_kernel_s", "kappa_boost"),
            1.3,
            "its energy of work, against what all devices share",
        ),
        Correction(
            "host_power", tuple(c.name for c in HOST.values()), 2.0, "its host's power, against what all devices share"
        ),
    ),
}

# Seconds of one micro-step, by block; `roofline_forms.micro_step` says which blocks overlap and which add up.
DURATION_TERMS = (
    Term("arithmetic", "fp32_s", {"eta_flop": -1}),
    Term("arithmetic", "fp32_row_s", {"eta_flop": -1, "fill_rows": 1}),
    Term("arithmetic", "reduced_s", {"eta_flop_reduced": -1}),
    Term("arithmetic", "reduced_row_s", {"eta_flop_reduced": -1, "fill_rows": 1}),
    Term("operands", "gemm_s", {"eta_bandwidth": -1}),
    Term("traffic", "elementwise_s", {"eta_bandwidth": -1, "elementwise_passes": 1}),
    Term("traffic", "optimizer_s", {"eta_bandwidth": -1}),
    Term("host", "kernels", {"kernel_s": 1}),
    Term("host", "one", {"micro_step_s": 1}),
    Term("host", "steps", {"step_s": 1}),
    Term("host", "step_layers", {"kernel_s": 1, "step_launches": 1}),
    Term("host", "fsdp_layers", {"fsdp_layer_s": 1}),
    Term("host", "zero_layers", {"zero_layer_s": 1}),
    Term("host", "tensor_layers", {"tensor_layer_s": 1}),
    Term("link", "sent_s", {"eta_link": -1}),
    Term("link", "message_s", {"eta_link": -1, "staging": 1}),
    Term("link", "collectives", {"collective_s": 1}),
    Term("group", "in_group", {"group_s": 1}),
    Term("input", "input_tokens", {"input_token_s": 1}),
)
# Joules of all devices per micro-step. Energy does not overlap: everything is added. The blocks tell how a term depends
# on the time: static as it does, boost through the load too, elementwise by its passes, work not at all.
ENERGY_TERMS = (
    Term("static", "limit_j", {"kappa_static": 1}),
    Term("work", "flop_j", {"kappa_flop": 1}),
    Term("work", "memory_j", {"kappa_byte": 1}),
    Term("elementwise", "elementwise_j", {"kappa_byte": 1}),
    Term("work", "sent_j", {"kappa_link": 1}),
    Term("work", "kernel_w", {"kappa_kernel_s": 1}),
    Term("boost", "boost_j", {"kappa_boost": 1}),
    *(Term("static", f"host_s[{boundary}]", {f"host_w[{boundary}]": 1}) for boundary in HOST_BOUNDARIES),
)
