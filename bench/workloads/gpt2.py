"""Hugging Face GPT-2, as a classifier of the last token."""

from pathlib import Path
from typing import Any

import torch
from transformers import GPT2Config, GPT2ForSequenceClassification

from joulelaw.bench.configuration import Configuration
from joulelaw.bench.workloads import BlockSplit, TrainingModel

# As published; a longer sequence gets as many positions as it needs.
MIN_POSITIONS = 1024
SPLIT = BlockSplit(
    by_columns=("attn.c_attn", "mlp.c_fc"),
    by_rows=("attn.c_proj", "mlp.c_proj"),
    fused={"attn.c_attn": 3},
    widths=("attn.split_size",),
    transposed=True,
)


def build(configuration: Configuration, device: torch.device, root: Path) -> TrainingModel:
    """GPT-2 with a classifier over its last token, in training mode, fp32, on the device."""
    settings: dict[str, Any] = {
        "n_layer": configuration.num_layers,
        "n_embd": configuration.hidden_size,
        "n_head": configuration.num_heads,
        "n_inner": configuration.intermediate_size,
        "vocab_size": configuration.vocab_size,
        "n_positions": max(MIN_POSITIONS, configuration.sequence_length),
        "num_labels": configuration.num_labels,
        "resid_pdrop": configuration.dropout,
        "embd_pdrop": configuration.dropout,
        "attn_pdrop": configuration.dropout,
        "problem_type": "single_label_classification",
        "attn_implementation": configuration.attention,
        "pad_token_id": 0,
        "use_cache": False,
    }
    model: torch.nn.Module = GPT2ForSequenceClassification(GPT2Config(**settings))
    model.to(device).train()
    blocks = tuple(model.get_submodule("transformer.h").children())
    return TrainingModel(module=model, blocks=blocks, split=SPLIT)
