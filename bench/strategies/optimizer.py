"""The optimizer that every strategy shares: fused AdamW."""

import torch
from torch.optim.optimizer import ParamsT

from joulelaw.bench.spec.configuration import Configuration


def adamw(parameters: ParamsT, configuration: Configuration) -> torch.optim.AdamW:
    """AdamW with torch's defaults (betas 0.9 and 0.999, decay 0.01), in one fused kernel.

    CPU and CUDA, all that trials run on, both have one for the fp32 weights that every strategy gives it.
    """
    return torch.optim.AdamW(parameters, lr=configuration.learning_rate, fused=True)
