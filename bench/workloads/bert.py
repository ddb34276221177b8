"""Hugging Face BERT: a classifier over its pooled first token, or a masked language model."""

from pathlib import Path

import torch
from transformers import BertConfig, BertForMaskedLM, BertForSequenceClassification

from joulelaw.bench.spec.configuration import Configuration
from joulelaw.bench.workloads import BlockSplit, TrainingModel
from joulelaw.bench.workloads.config_keys import CONFIG_KEYS
from joulelaw.bench.workloads.hugging_face import Family, build_model

FAMILY = Family(
    heads={"classification": BertForSequenceClassification, "language_model": BertForMaskedLM},
    config=BertConfig,
    keys=CONFIG_KEYS["bert"],
    dropouts=("hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout"),
    blocks="bert.encoder.layer",
    pretrained=("bert.embeddings.", "bert.encoder."),
    split=BlockSplit(
        by_columns=("attention.self.query", "attention.self.key", "attention.self.value", "intermediate.dense"),
        by_rows=("attention.output.dense", "output.dense"),
    ),
)


def build(configuration: Configuration, device: torch.device, root: Path) -> TrainingModel:
    """BERT in training mode, fp32, on the device."""
    return build_model(FAMILY, configuration, device, root)
