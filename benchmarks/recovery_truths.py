"""Synthetic truths of the roofline: its coefficients made up, plans of 60 trials, and noisy data drawn from both.

The numbers below are made up within what hardware does; none was measured, and none is what a prior expects.
"""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from joulelaw.model.hardware import Catalogue
from joulelaw.model.laws.base import Estimate, Parameters, Rows
from joulelaw.model.laws.roofline import Roofline, a_priori, layouts
from joulelaw.model.laws.roofline_anchor import Anchor
from joulelaw.model.tables import check_configurations

SHAPES = ((2, 128), (4, 256), (6, 512), (12, 768), (24, 1024), (24, 2048))
BATCHES = ((32, 4), (64, 8), (128, 8), (128, 32), (512, 8), (512, 32))  # sequence length, micro-batch
TRIALS = 60


@dataclass(frozen=True)
class Plan:
    """Which trials a truth is asked for."""

    devices: tuple[str, str]
    groups: tuple[tuple[str, int], ...]  # strategy and GPU count of what is not on a single device
    boundary: str
    seed: int

    def configurations(self) -> pd.DataFrame:
        """60 trials: cases drawn at random, each on one to four of the groups."""
        rng = np.random.default_rng(self.seed)
        rows: list[dict[str, object]] = []
        while len(rows) < TRIALS:
            (layers, width), (sequence, batch) = (list[rng.integers(len(list))] for list in (SHAPES, BATCHES))
            case = {
                "gpu_model": self.devices[rng.integers(2)],
                "model_family": ("bert", "gpt2")[rng.integers(2)],
                "num_layers": layers,
                "hidden_size": width,
                "num_heads": max(width // 64, 1),
                "intermediate_size": 4 * width,
                "vocab_size": 32000,
                "sequence_length": sequence,
                "micro_batch_size": batch,
                "grad_accumulation": int(2 ** rng.integers(4)),
                "precision": ("fp16", "fp16", "fp32")[rng.integers(3)],
            }
            groups = [("single", 1), *self.groups]
            for at in rng.choice(len(groups), size=rng.integers(1, 5), replace=False):
                strategy, count = groups[at]
                degree = count if strategy == "tp" else 1
                if case["num_heads"] % degree == 0:
                    rows.append({**case, "strategy": strategy, "gpu_count": count, "node_count": 1})
        table = pd.DataFrame(rows[:TRIALS])
        ids = [f"t{k:02d}" for k in range(TRIALS)]
        steps = 100 * table["grad_accumulation"]
        return table.assign(trial_id=ids, micro_steps=steps, boundary=self.boundary)


PLANS = {
    "mixed": Plan(
        ("NVIDIA A100-SXM4-40GB", "NVIDIA GeForce RTX 2080 Ti"),
        (("fsdp", 2), ("fsdp", 4), ("ddp", 2), ("ddp", 4), ("tp", 2), ("tp", 4)),
        "gpu_host_modelled",
        seed=1,
    ),
    "sharded": Plan(
        ("Tesla V100-SXM2-16GB", "NVIDIA L4"),
        (("fsdp", 2), ("fsdp", 8), ("ddp", 8), ("zero2", 4)),
        "gpu",
        seed=2,
    ),
}

# Shared coefficients, then by device in the plan's order what each multiplies them by.
TRUTHS: dict[str, tuple[dict[str, float], dict[str, tuple[float, float]]]] = {
    "quick": (
        {
            "duration.eta_flop": 0.62,
            "duration.eta_flop_reduced": 0.41,
            "duration.fill_rows": 220.0,
            "duration.eta_bandwidth": 0.74,
            "duration.elementwise_passes": 6.5,
            "duration.kernel_s": 1.3e-5,
            "duration.micro_step_s": 1.8e-3,
            "duration.step_s": 2.5e-3,
            "duration.step_launches": 28.0,
            "duration.overlap": 1.5,
            "duration.eta_link": 0.38,
            "duration.staging": 0.35,
            "duration.collective_s": 8e-5,
            "duration.group_s": 3e-3,
            "duration.input_token_s": 6e-7,
            "duration.fsdp_layer_s": 4e-4,
            "duration.zero_layer_s": 3e-4,
            "duration.tensor_layer_s": 1.6e-3,
            "energy.kappa_static": 0.2,
            "energy.kappa_flop": 0.55,
            "energy.kappa_byte": 0.4,
            "energy.kappa_link": 0.25,
            "energy.kappa_kernel_s": 3.5e-6,
            "energy.kappa_boost": 0.2,
            "energy.host_w[gpu_host_modelled]": 140.0,
        },
        {
            "duration.compute": (1.1, 0.92),
            "duration.bandwidth": (0.95, 1.1),
            "duration.link": (1.4, 0.8),
            "duration.host": (0.8, 1.3),
            "energy.static": (0.8, 1.2),
            "energy.dynamic": (1.1, 0.85),
            "energy.host_power": (1.2, 0.8),
        },
    ),
    "slow": (
        {
            "duration.eta_flop": 0.8,
            "duration.eta_flop_reduced": 0.6,
            "duration.fill_rows": 60.0,
            "duration.eta_bandwidth": 0.55,
            "duration.elementwise_passes": 3.0,
            "duration.kernel_s": 4.5e-5,
            "duration.micro_step_s": 5e-4,
            "duration.step_s": 6e-4,
            "duration.step_launches": 12.0,
            "duration.overlap": 4.0,
            "duration.eta_link": 0.7,
            "duration.staging": 0.1,
            "duration.collective_s": 3e-5,
            "duration.group_s": 6e-4,
            "duration.input_token_s": 2.5e-6,
            "duration.fsdp_layer_s": 1.2e-4,
            "duration.zero_layer_s": 7e-4,
            "duration.tensor_layer_s": 6e-4,
            "energy.kappa_static": 0.33,
            "energy.kappa_flop": 0.35,
            "energy.kappa_byte": 0.7,
            "energy.kappa_link": 0.06,
            "energy.kappa_kernel_s": 1.2e-6,
            "energy.kappa_boost": 0.1,
            "energy.host_w[gpu_host_modelled]": 60.0,
        },
        {
            "duration.compute": (0.9, 1.05),
            "duration.bandwidth": (1.15, 1.0),
            "duration.link": (0.7, 1.2),
            "duration.host": (1.5, 0.9),
            "energy.static": (1.3, 0.9),
            "energy.dynamic": (0.9, 1.2),
            "energy.host_power": (0.8, 1.3),
        },
    ),
}


@dataclass(frozen=True)
class Truth:
    """A plan's noiseless data, and the true value of everything that a fit reports."""

    rows: Rows  # without anything measured
    duration_s: np.ndarray
    energy_j: np.ndarray
    values: dict[str, float]  # by "target.name", in anchored form; devices' own numbers among them

    @classmethod
    def of(cls, plan: str, truth: str, catalogue: Catalogue) -> "Truth":
        shared, corrections = TRUTHS[truth]
        devices = PLANS[plan].devices
        by_device = {
            f"{name}[{d}]": v for name, pair in corrections.items() for d, v in zip(devices, pair, strict=True)
        }
        parameters = {**a_priori(catalogue).parameters, **shared, **by_device}
        if PLANS[plan].boundary == "gpu":
            parameters = {
                name: v for name, v in parameters.items() if "host_w" not in name and "host_power" not in name
            }
        rows = Rows.of(check_configurations(PLANS[plan].configurations()), catalogue)
        forecast = Roofline().forecast(parameters, rows)
        return cls(rows, forecast.duration_s, forecast.energy_j, true_values(parameters, rows))

    def measured(self, noise: float, seed: int) -> Rows:
        """The trials as if run: independent log-normal noise on every duration and on every energy."""
        rng = np.random.default_rng(seed)
        duration, energy = (
            values * np.exp(noise * rng.standard_normal(TRIALS)) for values in (self.duration_s, self.energy_j)
        )
        return replace(self.rows, table=self.rows.table.assign(duration_s=duration, energy_j=energy))


def true_values(parameters: Parameters, rows: Rows) -> dict[str, float]:
    """What a fit on endless data of these devices would report."""
    time, energy, _ = layouts(parameters, rows)
    anchored = {k: v for each in (time, energy) for k, v in Anchor.of(each).parameters(each.logs(parameters)).items()}
    found = Roofline().coefficients(Estimate(anchored), [], rows)
    return {f"{c.target}.{c.name}": c.value for c in found}
