"""torch.nn.GRU over word embeddings: a classifier of its last hidden state, or a causal language model."""

from pathlib import Path

import torch

from joulelaw.bench.spec.configuration import Configuration
from joulelaw.bench.workloads import TrainingModel
from joulelaw.bench.workloads.recurrent import build_model


def build(configuration: Configuration, device: torch.device, root: Path) -> TrainingModel:
    """A GRU in training mode, fp32, on the device."""
    return build_model(torch.nn.GRU, configuration, device)
