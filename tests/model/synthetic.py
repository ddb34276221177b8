"""Measurement tables drawn from a law whose coefficients are known."""

from dataclasses import replace

import numpy as np
import pandas as pd

from joulelaw.model.hardware import Catalogue
from joulelaw.model.laws.base import FittedLaw, Rows
from joulelaw.model.laws.roofline import a_priori
from joulelaw.model.tables import check_configurations

DEVICES = ("NVIDIA A100-SXM4-40GB", "Tesla T4")
TRUTH = {
    "duration.eta_flop_reduced": 0.42,
    "duration.eta_bandwidth": 0.8,
    "duration.elementwise_passes": 6.0,
    "duration.kernel_s": 1.4e-5,
    "duration.micro_step_s": 2.5e-3,
    "duration.step_s": 4e-3,
    "duration.overlap": 1.5,
    "duration.eta_link": 0.35,
    "duration.collective_s": 8e-5,
    "duration.group_s": 3e-3,
    "duration.fsdp_layer_s": 8e-4,
    "energy.kappa_static": 0.2,
    "energy.kappa_flop": 0.8,
    "energy.kappa_byte": 0.4,
    "energy.kappa_link": 0.5,
    "energy.kappa_kernel_s": 3e-6,
}


def truth(catalogue: Catalogue) -> FittedLaw:
    """The roofline with the coefficients above."""
    law = a_priori(catalogue)
    return replace(law, parameters={**law.parameters, **TRUTH})


def configurations(devices: tuple[str, ...] = DEVICES, most: int | None = None) -> pd.DataFrame:
    """BERT shapes on one, two and four devices: launch-bound to compute-bound, with and without accumulation."""
    rows = []
    shapes = [(2, 128), (4, 256), (6, 512), (12, 768), (24, 1024)]
    for model in devices:
        for layers, width in shapes:
            for sequence, batch, accumulation in ((64, 4, 4), (128, 8, 1), (128, 32, 2), (512, 16, 1)):
                for strategy, count in (("single", 1), ("fsdp", 2), ("fsdp", 4)):
                    rows.append(
                        {
                            "gpu_model": model,
                            "gpu_count": count,
                            "node_count": 1,
                            "strategy": strategy,
                            "model_family": "bert",
                            "num_layers": layers,
                            "hidden_size": width,
                            "num_heads": max(width // 64, 1),
                            "intermediate_size": 4 * width,
                            "vocab_size": 30522,
                            "sequence_length": sequence,
                            "micro_batch_size": batch,
                            "grad_accumulation": accumulation,
                            "precision": "fp16",
                            "micro_steps": 100 * accumulation,
                        }
                    )
    table = pd.DataFrame(rows)[: most or len(rows)]
    table.insert(0, "trial_id", [f"t{k:03d}" for k in range(len(table))])
    return table


def measured(
    catalogue: Catalogue, noise: float = 0.0, seed: int = 0, devices: tuple[str, ...] = DEVICES, most: int | None = None
) -> pd.DataFrame:
    """The configurations with durations and energies of the truth, times independent log-normal noise."""
    table = configurations(devices, most)
    law = truth(catalogue)
    rows = Rows.of(check_configurations(table.assign(boundary="gpu")), catalogue)
    rng = np.random.default_rng(seed)
    forecast = law.law.forecast(law.parameters, rows)
    # Joules of the noisy duration would tie the two noises; they are drawn apart.
    return table.assign(
        duration_s=forecast.duration_s * np.exp(noise * rng.standard_normal(len(table))),
        energy_j=forecast.energy_j * np.exp(noise * rng.standard_normal(len(table))),
        boundary="gpu",
        meter="replay",
        meter_kind="replayed",
        verdict="valid",
        split=np.where(np.arange(len(table)) // 3 % 4 == 3, "hold_out", "fit"),
    )
