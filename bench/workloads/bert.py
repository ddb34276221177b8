"""Hugging Face BERT for sequence classification, from a configuration and random weights."""

from pathlib import Path
from typing import Any

import torch
from transformers import BertConfig, BertForSequenceClassification

from joulelaw.bench.configuration import Configuration
from joulelaw.bench.workloads import BlockSplit, TrainingModel

# As published; a longer sequence gets as many positions as it needs.
MIN_POSITIONS = 512
SPLIT = BlockSplit(
    by_columns=("attention.self.query", "attention.self.key", "attention.self.value", "intermediate.dense"),
    by_rows=("attention.output.dense", "output.dense"),
)


def build(configuration: Configuration, device: torch.device, root: Path) -> TrainingModel:
    """BERT with a classifier over its pooled first token, in training mode, fp32, on the device."""
    settings: dict[str, Any] = {
        "num_hidden_layers": configuration.num_layers,
        "hidden_size": configuration.hidden_size,
        "num_attention_heads": configuration.num_heads,
        "intermediate_size": configuration.intermediate_size,
        "vocab_size": configuration.vocab_size,
        "max_position_embeddings": max(MIN_POSITIONS, configuration.sequence_length),
        "num_labels": configuration.num_labels,
        "hidden_dropout_prob": configuration.dropout,
        "attention_probs_dropout_prob": configuration.dropout,
        "problem_type": "single_label_classification",
        "attn_implementation": configuration.attention,
    }
    model: torch.nn.Module = BertForSequenceClassification(BertConfig(**settings))
    model.to(device).train()
    blocks = tuple(model.get_submodule("bert.encoder.layer").children())
    return TrainingModel(module=model, blocks=blocks, split=SPLIT)
