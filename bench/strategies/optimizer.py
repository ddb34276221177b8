"""The optimizer that every strategy shares: AdamW, fused where there is a kernel."""

from typing import Any

import torch
from torch.optim.optimizer import ParamsT

from joulelaw.bench.configuration import Configuration


def adamw(parameters: ParamsT, configuration: Configuration) -> torch.optim.AdamW:
    """AdamW with torch's defaults (betas 0.9 and 0.999, decay 0.01).

    One fused kernel on CPU and CUDA alike; torch's default where parameters or device have none.
    """
    given: list[Any] = list(parameters)
    try:
        return torch.optim.AdamW(given, lr=configuration.learning_rate, fused=True)
    except RuntimeError:
        return torch.optim.AdamW(given, lr=configuration.learning_rate)
