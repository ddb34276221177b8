"""The optimizer that every strategy shares: fused AdamW."""

import torch
from torch.optim.optimizer import ParamsT

from joulelaw.bench.configuration import Configuration


def adamw(parameters: ParamsT, configuration: Configuration) -> torch.optim.AdamW:
    """AdamW with torch's defaults (betas 0.9 and 0.999, decay 0.01), one fused kernel on CPU and CUDA alike."""
    return torch.optim.AdamW(parameters, lr=configuration.learning_rate, fused=True)
